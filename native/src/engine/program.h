// What a program is made of; building.cpp makes it, program.cpp runs it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "secateur/engine.h"
#include "steps.h"

namespace secateur {
namespace engine {

// No number of floats is larger, so that sums and products of a few of them fit 64 bits.
constexpr std::size_t MOST = std::size_t{1} << 40;

// The loops of an instruction set by its name, of the best that this processor can run if it is empty; null if there
// are none.
const Loops* loops_of(const std::string& name);

class Arena {
public:
    explicit Arena(std::size_t floats);
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    float* floats() const { return floats_; }

private:
    float* const floats_;
};

// The samples under way.
struct Pass {
    float* arena = nullptr;
    std::size_t samples = 1;
    std::vector<const float*> inputs;
    std::vector<float*> outputs;
    std::atomic<bool>* lost = nullptr;  // set where an index was none
};

class Step {
public:
    bool goes_on = false;  // with what the step ahead began: both are one for whoever counts

    virtual ~Step() = default;
    // Whether it is worth dividing among threads: they pass on to each other what they read and write.
    virtual bool worth_dividing() const { return true; }
    virtual void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const = 0;
};

struct Constant {
    std::size_t offset;
    std::vector<float> values;
};

struct Program::Private {
    const Loops* loops = nullptr;
    std::size_t arena_size = 0;
    std::vector<std::size_t> inputs, outputs;
    bool samples_in_lanes = false;
    std::vector<Constant> constants;
    std::vector<std::unique_ptr<Step>> steps;

    std::unique_ptr<Arena> take_arena();
    void give_back(std::unique_ptr<Arena> arena);

    std::mutex mutex;  // of what follows
    std::vector<std::unique_ptr<Arena>> arenas;
};

}  // namespace engine
}  // namespace secateur
