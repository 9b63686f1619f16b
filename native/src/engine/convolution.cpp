// Convolutions: from the weights that are not zero to lists of words for the loops.
#include <cstring>
#include <limits>

#include "building.h"

namespace secateur {
namespace engine {
namespace {

std::uint32_t word_of(float weight) {
    std::uint32_t word;
    std::memcpy(&word, &weight, sizeof word);
    return word;
}

struct Convolution final : Step {
    ConvolutionStep step;
    std::vector<std::uint32_t> starts, words;
    std::vector<float> bias;
    std::vector<Tile> tiles;
    std::vector<std::size_t> work;
    KeptHalo halo;
    bool divided = true;

    bool worth_dividing() const override { return divided; }
    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        loops.convolve(step, pass.arena, part, parts);
    }
};

// What the lists are made from.
struct Shape {
    const Map& from;
    const Map& to;
    const Window& window;
    std::size_t groups, lanes;

    std::size_t inputs() const { return from.channels / groups; }
    std::size_t taps() const { return window.height * window.width; }

    // The place of a column of the weights of an output channel, in bytes from the tile's corner.
    std::size_t place(std::size_t output, std::size_t column) const {
        const std::size_t tap = column % taps();
        const std::size_t channel = output / (to.channels / groups) * inputs() + column / taps();
        const std::size_t row = tap / window.width * window.dilation_rows;
        const std::size_t col = tap % window.width * window.dilation_cols;
        return (channel * from.channel + row * from.row + col * lanes) * sizeof(float);
    }
};

// Appends a list: the columns from `next` up to `limit` of any of its rows, in order, with the weights of all.
std::size_t append(Convolution& made, const Shape& shape, const Sparse& weights, std::size_t first,
                   std::vector<std::size_t>& next, std::size_t limit) {
    std::size_t entries = 0;
    for (;;) {
        std::size_t column = limit;
        for (std::size_t o = 0; o < next.size(); ++o) {
            const bool more = next[o] < weights.starts[first + o + 1];
            if (more) column = std::min<std::size_t>(column, weights.columns[next[o]]);
        }
        if (column == limit) return entries;
        made.words.push_back(static_cast<std::uint32_t>(shape.place(first, column)));
        for (std::size_t o = 0; o < made.step.outputs; ++o) {
            const bool here =
                o < next.size() && next[o] < weights.starts[first + o + 1] && weights.columns[next[o]] == column;
            made.words.push_back(word_of(here ? weights.values[next[o]++] : 0.f));
        }
        ++entries;
    }
}

void list(Convolution& made, const Shape& shape, const Sparse& weights, std::size_t block) {
    ConvolutionStep& step = made.step;
    const std::size_t outputs = shape.to.channels;
    step.groups = (outputs + step.outputs - 1) / step.outputs;
    step.blocks = (shape.inputs() + block - 1) / block;
    std::vector<std::size_t> entries(step.groups, 0);
    std::vector<std::vector<std::size_t>> next(step.groups);
    for (std::size_t group = 0; group < step.groups; ++group) {
        for (std::size_t o = group * step.outputs; o < std::min(outputs, (group + 1) * step.outputs); ++o) {
            next[group].push_back(weights.starts[o]);
        }
    }
    made.starts.push_back(0);
    for (std::size_t b = 0; b < step.blocks; ++b) {
        const std::size_t limit = std::min(shape.inputs(), (b + 1) * block) * shape.taps();
        for (std::size_t group = 0; group < step.groups; ++group) {
            entries[group] += append(made, shape, weights, group * step.outputs, next[group], limit);
            require(made.words.size() <= std::numeric_limits<std::uint32_t>::max(), "there are too many weights");
            made.starts.push_back(static_cast<std::uint32_t>(made.words.size()));
        }
    }
    made.work.push_back(0);
    // Beginning and ending a tile is work too, about as much as two entries.
    for (const std::size_t each : entries)
        made.work.push_back(made.work.back() + each * step.outputs + 2 * step.blocks);
}

struct Cut {
    std::size_t rows, cols;
    unsigned across;       // steps from one vector to the next: 1, 2, 0 for any other number, or POOLED
    std::size_t side = 1;  // of the squares that become one vector
};

// The tiles that are asked for, or what is left of them where there is no loop for such. all: rows and cols of sums.
Cut usable(const Loops& loops, const Tiling& tiling, const Cut& all, std::size_t& outputs) {
    Cut cut{std::min(tiling.rows, all.rows), std::min(tiling.cols, all.cols), all.across, all.side};
    if (cut.side > 1) {
        cut.rows = std::max(cut.rows - cut.rows % cut.side, cut.side);
        cut.cols = std::max(cut.cols - cut.cols % cut.side, cut.side);
    }
    if (cut.across == 0) outputs = 1;
    const auto missing = [&] {
        return loops.shape(static_cast<unsigned>(cut.rows), static_cast<unsigned>(cut.cols),
                           static_cast<unsigned>(outputs), cut.across) < 0;
    };
    while (missing() && cut.cols > cut.side) cut.cols -= cut.side;
    while (missing() && cut.rows > cut.side) cut.rows -= cut.side;
    while (missing() && outputs > 1) outputs /= 2;
    require(!missing(), "there is no such tiling");
    return cut;
}

void tile(Convolution& made, const Loops& loops, const Shape& shape, const Cut& cut, const Map* residual) {
    const Map& to = shape.to;
    const auto outputs = static_cast<unsigned>(made.step.outputs);
    const std::size_t all_rows = to.rows * cut.side, all_cols = to.cols * cut.side;
    for (std::size_t row = 0; row < all_rows;) {
        const std::size_t rows = std::min(cut.rows, all_rows - row);
        for (std::size_t col = 0; col < all_cols;) {
            const std::size_t cols = std::min(cut.cols, all_cols - col);
            Tile each;
            each.in = ((row * shape.window.stride_rows + shape.window.top) * shape.from.row +
                       (col * shape.window.stride_cols + shape.window.left) * shape.lanes) *
                      sizeof(float);
            each.out = row / cut.side * to.row + col / cut.side * shape.lanes;
            if (residual != nullptr) each.residual = row * residual->row + col * shape.lanes;
            const int loop = loops.shape(static_cast<unsigned>(rows), static_cast<unsigned>(cols), outputs, cut.across);
            require(loop >= 0, "there is no such tiling");
            each.shape = static_cast<std::uint32_t>(loop);
            made.tiles.push_back(each);
            col += cols;
        }
        row += rows;
    }
}

}  // namespace

void Program::convolve(const Map& from, const Map& to, const Window& window, std::size_t groups, const Sparse& weights,
                       const std::vector<float>& bias, const Map* residual, const Applied& activation, const Halo& halo,
                       const Tiling& tiling, int pooling) {
    const Bounds bounds{own_->arena_size, lanes()};
    bounds.check(from);
    bounds.check(to);
    bounds.check(bias, residual, halo, to);
    require(pooling >= 0 && pooling < POOLINGS, "there is no such pooling");
    const bool pooled = pooling != 0;
    Map sums = to;
    if (pooled) {
        require(residual == nullptr && window.stride_cols == 1, "what is pooled has no residual and moves by one");
        sums.rows *= 2;
        sums.cols *= 2;
    }
    Bounds::check(window, from, sums);
    engine::check(activation);
    require(groups > 0 && from.channels % groups == 0 && to.channels % groups == 0,
            "groups do not divide the channels");
    require(tiling.rows > 0 && tiling.cols > 0 && tiling.block > 0, "a tiling is empty");
    require(tiling.outputs == 1 || tiling.outputs == 2 || tiling.outputs == 4 || tiling.outputs == 8,
            "1, 2, 4 or 8 channels can be computed at once");
    const Shape shape{from, to, window, groups, lanes()};
    const std::size_t columns = engine::product(shape.inputs(), engine::product(window.height, window.width));
    engine::check(weights, to.channels, columns);
    const std::size_t rows = end_of(0, from.rows, from.row, from.cols * lanes());
    require(end_of(0, from.channels, from.channel, rows) * sizeof(float) <= std::numeric_limits<std::uint32_t>::max(),
            "a map is too large to be convolved");
    auto made = std::make_unique<Convolution>();
    ConvolutionStep& step = made->step;
    step.source = region(from);
    step.target = region(to);
    step.has_residual = residual != nullptr;
    if (residual != nullptr) step.residual = region(*residual);
    step.step_bytes = window.stride_cols * lanes() * sizeof(float);
    step.row_bytes = window.stride_rows * from.row * sizeof(float);
    step.activation = function(activation);
    step.pooling = static_cast<Squares>(pooling);
    step.outputs = to.channels / groups % tiling.outputs == 0 || groups == 1 ? tiling.outputs : 1;
    Cut all{sums.rows, sums.cols, window.stride_cols <= 2 ? static_cast<unsigned>(window.stride_cols) : 0u};
    if (pooled) all = {sums.rows, sums.cols, POOLED, 2};
    const Cut cut = usable(*own_->loops, tiling, all, step.outputs);
    list(*made, shape, weights, pooled ? shape.inputs() : std::min(tiling.block, shape.inputs()));
    tile(*made, *own_->loops, shape, cut, residual);
    // Half of what is read and written goes from core to core, at some 14 bytes a nanosecond. A vector is multiplied
    // and added in a third of one; where a tile has but one, in twice as much.
    const double vectors = std::max(static_cast<double>(cut.rows * cut.cols), 2.);
    const double products = static_cast<double>(weights.values.size() * made->tiles.size()) * vectors;
    const double bytes = static_cast<double>(from.channels * from.channel + to.channels * to.channel) * sizeof(float);
    made->divided = products / 3 > bytes / 14;
    made->bias = bias;
    made->bias.resize(step.groups * step.outputs, 0.f);
    made->halo = KeptHalo(halo, lanes());
    step.starts = made->starts.data();
    step.words = made->words.data();
    step.bias = made->bias.data();
    step.tiles = made->tiles.data();
    step.tile_count = made->tiles.size();
    step.work = made->work.data();
    step.fills = made->halo.fills();
    own_->steps.push_back(std::move(made));
}

}  // namespace engine
}  // namespace secateur
