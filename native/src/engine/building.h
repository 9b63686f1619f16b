// What all steps are built with.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "checks.h"
#include "program.h"

namespace secateur {
namespace engine {

inline Region region(const Map& map) {
    Region made;
    made.offset = map.offset;
    made.channels = map.channels;
    made.channel = map.channel;
    made.rows = map.rows;
    made.row = map.row;
    made.cols = map.cols;
    return made;
}

inline Activation function(const Applied& applied) {
    Activation made;
    made.function = static_cast<Function>(applied.function);
    made.alpha = applied.alpha;
    made.beta = applied.beta;
    return made;
}

class KeptHalo {
public:
    KeptHalo() = default;
    KeptHalo(const Halo& halo, std::size_t lanes)
        : offset_(halo.offset), outside_(halo.outside), permutations_(halo.permutations) {
        for (std::size_t i = 0; i < halo.fills.size(); i += 3) {
            Fill each;
            each.to = halo.fills[i] * lanes;
            each.from = halo.fills[i + 1] * lanes;
            each.permutation = halo.fills[i + 2] * lanes;
            fills_.push_back(each);
        }
    }

    Fills fills() const {
        Fills made;
        made.offset = offset_;
        made.fills = fills_.data();
        made.count = fills_.size();
        made.permutations = permutations_.data();
        made.outside = outside_;
        return made;
    }

private:
    std::size_t offset_ = 0;
    float outside_ = 0;
    std::vector<Fill> fills_;
    std::vector<std::int32_t> permutations_;
};

}  // namespace engine
}  // namespace secateur
