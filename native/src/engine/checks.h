// Whether what a program is built from stays inside its bounds.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include "program.h"

namespace secateur {
namespace engine {

inline void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

inline std::size_t product(std::size_t a, std::size_t b) {
    require(a <= MOST && b <= MOST && (a == 0 || b <= MOST / a), "a size is too large");
    return a * b;
}

inline std::size_t sum(std::size_t a, std::size_t b) {
    require(a <= MOST && b <= MOST, "a size is too large");
    return a + b;
}

// The end of `count` runs of `size` floats that begin `step` apart.
inline std::size_t end_of(std::size_t offset, std::size_t count, std::size_t step, std::size_t size) {
    return count == 0 ? offset : sum(sum(offset, product(count - 1, step)), size);
}

struct Bounds {
    std::size_t arena, lanes;

    void check(const Map& map) const {
        require(map.channels > 0 && map.rows > 0 && map.cols > 0, "a map is empty");
        require(map.offset % lanes == 0 && map.channel % lanes == 0 && map.row % lanes == 0,
                "a map does not begin with a vector");
        const std::size_t row = product(map.cols, lanes), channel = end_of(0, map.rows, map.row, row);
        require(end_of(map.offset, map.channels, map.channel, channel) <= arena, "a map lies outside the arena");
        // So that nothing takes longer than the arena is large, and threads write different floats.
        require(map.rows == 1 || map.row >= row, "the rows of a map overlap");
        require(map.channels == 1 || map.channel >= channel, "the channels of a map overlap");
    }

    void check(const Span& span) const {
        require(span.size > 0, "an array is empty");
        require(sum(span.offset, span.size) <= arena, "an array lies outside the arena");
    }

    void check(const Halo& halo, const Map& map) const {
        require(halo.offset % lanes == 0, "a halo does not begin with a vector");
        require(halo.fills.size() % 3 == 0 && halo.permutations.size() % lanes == 0, "a halo is incomplete");
        for (const std::int32_t lane : halo.permutations) {
            require(lane >= -1 && lane < static_cast<std::int32_t>(lanes), "a lane does not exist");
        }
        std::size_t vectors = 0;
        for (std::size_t i = 0; i < halo.fills.size(); i += 3) {
            vectors =
                std::max<std::size_t>({vectors, halo.fills[i] + std::size_t{1}, halo.fills[i + 1] + std::size_t{1}});
            require(halo.fills[i + 2] < halo.permutations.size() / lanes, "a permutation does not exist");
        }
        const std::size_t channel = product(vectors, lanes);
        require(end_of(halo.offset, map.channels, map.channel, channel) <= arena, "a halo lies outside the arena");
        require(map.channels == 1 || channel <= map.channel, "a halo reaches into the next channel");
    }

    // What comes behind the sums that are written to a map.
    void check(const std::vector<float>& bias, const Map* residual, const Halo& halo, const Map& to) const {
        check(halo, to);
        require(bias.empty() || bias.size() == to.channels, "a bias needs a number for each channel");
        if (residual == nullptr) return;
        check(*residual);
        require(residual->channels == to.channels && residual->rows == to.rows && residual->cols == to.cols,
                "a residual has another shape");
    }

    // That a window, moved once for each vector of `to`, stays inside `from`.
    static void check(const Window& window, const Map& from, const Map& to) {
        require(window.height > 0 && window.width > 0, "a window is empty");
        require(window.dilation_rows > 0 && window.dilation_cols > 0, "a window looks at one place again and again");
        const std::size_t down = product(to.rows - 1, window.stride_rows),
                          across = product(to.cols - 1, window.stride_cols);
        const std::size_t low = sum(sum(window.top, down), product(window.height - 1, window.dilation_rows));
        const std::size_t right = sum(sum(window.left, across), product(window.width - 1, window.dilation_cols));
        require(low < from.rows && right < from.cols, "a window reaches beyond its map");
    }
};

inline void check(const Applied& applied) {
    require(applied.function >= 0 && applied.function < FUNCTIONS, "there is no such function");
}

inline void check(const Sparse& weights, std::size_t rows, std::size_t columns) {
    require(weights.starts.size() == rows + 1 && weights.starts.front() == 0, "weights need a start for each row");
    require(weights.columns.size() == weights.values.size(), "weights need a column for each value");
    require(weights.starts.back() == weights.columns.size(), "the rows of weights do not end where they should");
    for (std::size_t row = 0; row < rows; ++row) {
        require(weights.starts[row] <= weights.starts[row + 1] && weights.starts[row + 1] <= weights.columns.size(),
                "the rows of weights go backwards");
        for (std::size_t i = weights.starts[row]; i < weights.starts[row + 1]; ++i) {
            require(weights.columns[i] < columns, "a column of weights does not exist");
            require(i == weights.starts[row] || weights.columns[i - 1] < weights.columns[i],
                    "the columns of weights are not in order");
        }
    }
}

}  // namespace engine
}  // namespace secateur
