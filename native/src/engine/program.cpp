#include "program.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

#include "secateur/pool.h"
#include "team.h"

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace secateur {
namespace engine {

namespace {

constexpr std::size_t ALIGNMENT = 64;
constexpr const char* LOST = "an index is outside its table";

// Numbers too small for a normal float cost a hundred times as much, and are as good as zero.
class Flushing {
public:
#if defined(__SSE2__) || defined(_M_X64)
    Flushing() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~Flushing() { _mm_setcsr(before_); }

private:
    const unsigned before_;
#else
    Flushing() {}
#endif
};

}  // namespace

Arena::Arena(std::size_t floats)
    : floats_(static_cast<float*>(::operator new(floats * sizeof(float), std::align_val_t{ALIGNMENT}))) {
    std::memset(floats_, 0, floats * sizeof(float));
}

Arena::~Arena() { ::operator delete(floats_, std::align_val_t{ALIGNMENT}); }

std::unique_ptr<Arena> Program::Private::take_arena() {
    {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!arenas.empty()) {
            std::unique_ptr<Arena> one = std::move(arenas.back());
            arenas.pop_back();
            return one;
        }
    }
    auto made = std::make_unique<Arena>(arena_size);
    for (const Constant& each : constants) {
        std::memcpy(made->floats() + each.offset, each.values.data(), each.values.size() * sizeof(float));
    }
    return made;
}

void Program::Private::give_back(std::unique_ptr<Arena> arena) {
    const std::lock_guard<std::mutex> lock(mutex);
    arenas.push_back(std::move(arena));
}

Program::Program(const std::string& kernels, std::size_t arena, std::vector<std::size_t> inputs,
                 std::vector<std::size_t> outputs, bool samples_in_lanes)
    : own_(std::make_unique<Private>()) {
    own_->loops = loops_of(kernels);
    if (own_->loops == nullptr) throw std::invalid_argument("no such instruction set here");
    if (arena > MOST) throw std::invalid_argument("the arena is too large");
    own_->arena_size = arena;
    own_->inputs = std::move(inputs);
    own_->outputs = std::move(outputs);
    own_->samples_in_lanes = samples_in_lanes;
}

Program::~Program() = default;

std::size_t Program::lanes() const { return own_->loops->lanes; }
const char* Program::kernels() const { return own_->loops->name; }
std::size_t Program::size() const {
    return static_cast<std::size_t>(std::count_if(own_->steps.begin(), own_->steps.end(),
                                                  [](const std::unique_ptr<Step>& each) { return !each->goes_on; }));
}

void Program::constant(std::size_t offset, const std::vector<float>& values) {
    if (values.size() > own_->arena_size || offset > own_->arena_size - values.size()) {
        throw std::invalid_argument("a constant lies outside the arena");
    }
    own_->constants.push_back({offset, values});
}

namespace {

struct Passing {
    const Program::Private& program;
    const std::vector<const float*>& inputs;
    const std::vector<float*>& outputs;
    std::size_t samples;
    std::size_t width;  // samples a pass
    std::atomic<bool>& lost;

    Pass at(std::size_t pass, float* arena) const {
        Pass made;
        made.arena = arena;
        made.lost = &lost;
        made.samples = std::min(width, samples - pass * width);
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            made.inputs.push_back(inputs[i] + pass * width * program.inputs[i]);
        }
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            made.outputs.push_back(outputs[i] + pass * width * program.outputs[i]);
        }
        return made;
    }
};

struct Shared {
    const Program::Private& program;
    const Pass& pass;
};

void work_together(void* context, std::size_t part, std::size_t parts, Barrier& barrier) {
    const Shared& shared = *static_cast<const Shared*>(context);
    const Flushing flushing;
    for (const auto& step : shared.program.steps) {
        if (step->worth_dividing()) {
            step->run(*shared.program.loops, shared.pass, part, parts);
        } else if (part == 0) {
            step->run(*shared.program.loops, shared.pass, 0, 1);
        }
        barrier.wait();
    }
}

void timed(const Program::Private& program, const Pass& pass, double* seconds) {
    const Flushing flushing;
    --seconds;
    for (const auto& step : program.steps) {
        if (!step->goes_on) ++seconds;
        const auto before = std::chrono::steady_clock::now();
        step->run(*program.loops, pass, 0, 1);
        *seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
    }
}

}  // namespace

void Program::run(const std::vector<const float*>& inputs, const std::vector<float*>& outputs, std::size_t samples,
                  unsigned threads, double* seconds) const {
    Private& own = *own_;
    if (inputs.size() != own.inputs.size() || outputs.size() != own.outputs.size()) {
        throw std::invalid_argument("as many arrays as the program has inputs and outputs are needed");
    }
    const std::size_t width = own.samples_in_lanes ? lanes() : 1;
    std::atomic<bool> lost{false};
    const Passing passing{own, inputs, outputs, samples, width, lost};
    const std::size_t passes = (samples + width - 1) / width;
    if (seconds == nullptr && threads > 1 && passes >= threads) {
        // Whole samples on each thread: nobody waits for anybody.
        std::vector<std::unique_ptr<Arena>> arenas;
        for (unsigned i = 0; i < threads; ++i) arenas.push_back(own.take_arena());
        parallel_for(passes, threads, [&](std::size_t pass, unsigned worker) {
            const Flushing flushing;
            const Pass made = passing.at(pass, arenas[worker]->floats());
            for (const auto& step : own.steps) step->run(*own.loops, made, 0, 1);
        });
        for (auto& each : arenas) own.give_back(std::move(each));
        if (lost) throw std::out_of_range(LOST);
        return;
    }
    std::unique_ptr<Arena> arena = own.take_arena();
    for (std::size_t pass = 0; pass < passes; ++pass) {
        const Pass made = passing.at(pass, arena->floats());
        if (seconds != nullptr) {
            timed(own, made, seconds);
        } else {
            Shared shared{own, made};
            together(threads, work_together, &shared);
        }
    }
    own.give_back(std::move(arena));
    if (lost) throw std::out_of_range(LOST);
}

double peak(const std::string& kernels) {
    const Loops* const loops = loops_of(kernels);
    if (loops == nullptr) throw std::invalid_argument("no such instruction set here");
    double best = 0;
    for (int i = 0; i < 20; ++i) {
        const auto before = std::chrono::steady_clock::now();
        const double operations = loops->burn(20000);
        best = std::max(best,
                        operations / std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count());
    }
    return best;
}

}  // namespace engine
}  // namespace secateur
