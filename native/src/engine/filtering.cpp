// Convolutions by Winograd's minimal filtering: weights turned once, and two steps.
#include "building.h"

namespace secateur {
namespace engine {
namespace {

constexpr std::size_t POINTS = 16, TAPS = 9;

struct Spread final : Step {
    SpreadStep step;

    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        loops.spread(step, pass.arena, part, parts);
    }
};

struct Filter final : Step {
    FilterStep step;
    std::vector<float> weights, bias;
    KeptHalo halo;

    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        loops.filter(step, pass.arena, part, parts);
    }
};

// G g G' for one kernel of 3 x 3: to[16], `stride` apart.
void turn(const double* g, float* to, std::size_t stride) {
    const auto line = [](double a, double b, double c, double* four) {
        four[0] = a;
        four[1] = (a + b + c) / 2;
        four[2] = (a - b + c) / 2;
        four[3] = c;
    };
    double columns[3][4], rows[4];
    for (std::size_t x = 0; x < 3; ++x) line(g[x], g[3 + x], g[6 + x], columns[x]);
    for (std::size_t i = 0; i < 4; ++i) {
        line(columns[0][i], columns[1][i], columns[2][i], rows);
        for (std::size_t j = 0; j < 4; ++j) to[(4 * i + j) * stride] = static_cast<float>(rows[j]);
    }
}

// Chunks of `at_once` output channels: 16 x inputs x at_once.
std::vector<float> turned(const Sparse& weights, std::size_t outputs, std::size_t inputs, std::size_t at_once) {
    const std::size_t chunks = (outputs + at_once - 1) / at_once;
    std::vector<float> made(product(product(chunks * at_once, inputs), POINTS), 0.f);
    std::vector<double> row;
    for (std::size_t o = 0; o < outputs; ++o) {
        row.assign(inputs * TAPS, 0.);
        for (std::size_t i = weights.starts[o]; i < weights.starts[o + 1]; ++i) {
            row[weights.columns[i]] = static_cast<double>(weights.values[i]);
        }
        float* const chunk = made.data() + o / at_once * POINTS * inputs * at_once + o % at_once;
        for (std::size_t c = 0; c < inputs; ++c) turn(row.data() + c * TAPS, chunk + c * at_once, inputs * at_once);
    }
    return made;
}

}  // namespace

void Program::filter(const Map& from, const Map& to, std::size_t top, std::size_t left, const Sparse& weights,
                     const std::vector<float>& bias, const Map* residual, const Applied& activation, const Halo& halo,
                     const Span& scratch) {
    const Bounds bounds{own_->arena_size, lanes()};
    bounds.check(from);
    bounds.check(to);
    bounds.check(bias, residual, halo, to);
    Bounds::check(Window{top, left, 1, 1, 3, 3, 1, 1}, from, to);
    engine::check(activation);
    engine::check(weights, to.channels, engine::product(from.channels, TAPS));
    const std::size_t rows = (to.rows + 1) / 2, cols = (to.cols + 1) / 2;
    const std::size_t vectors = engine::product(engine::product(rows, cols), sum(from.channels, 1));
    bounds.check(scratch);
    require(scratch.offset % lanes() == 0, "scratch does not begin with a vector");
    require(scratch.size >= engine::product(vectors, POINTS * lanes()), "scratch is too small");

    auto first = std::make_unique<Spread>();
    first->step.source = region(from);
    first->step.source.offset += top * from.row + left * lanes();
    first->step.source.rows -= top;
    first->step.source.cols -= left;
    first->step.target = scratch.offset;
    first->step.tile_rows = rows;
    first->step.tile_cols = cols;

    auto made = std::make_unique<Filter>();
    made->goes_on = true;
    made->weights = turned(weights, to.channels, from.channels, own_->loops->filtered);
    made->bias = bias;
    made->bias.resize(to.channels + own_->loops->filtered, 0.f);
    made->halo = KeptHalo(halo, lanes());
    FilterStep& step = made->step;
    step.source = scratch.offset;
    step.inputs = from.channels;
    step.tile_rows = rows;
    step.tile_cols = cols;
    step.target = region(to);
    step.has_residual = residual != nullptr;
    if (residual != nullptr) step.residual = region(*residual);
    step.weights = made->weights.data();
    step.bias = made->bias.data();
    step.activation = function(activation);
    step.fills = made->halo.fills();
    own_->steps.push_back(std::move(first));
    own_->steps.push_back(std::move(made));
}

}  // namespace engine
}  // namespace secateur
