// What the innermost loops are given: plain structures without code, as every instruction set has its own copy of
// theirs.
//
// Offsets called bytes count bytes, all others floats. Every step is divided into `parts`, which run on one thread each
// and write different channels.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace secateur {
namespace engine {

enum class Function : uint8_t {
    none,
    relu,
    clamp,
    leaky_relu,
    elu,
    sigmoid,
    tanh,
    silu,
    gelu,
    gelu_tanh,
    hardswish,
    hardsigmoid,
    softplus,
    exp,
    log,
    sqrt,
    reciprocal,
    absolute,
    negative,
    square,
    rsqrt,
    sin,
    cos,
    erf,
    floor,
    power,
};
constexpr uint8_t FUNCTIONS = 26;

struct Activation {
    Function function = Function::none;
    float alpha = 0, beta = 0;
};

// A value in the arena: floats from its start; distances between channels and between rows; vectors.
struct Region {
    size_t offset = 0;
    size_t channels = 0, channel = 0;
    size_t rows = 0, row = 0;
    size_t cols = 0;
};

struct Fill {
    size_t to = 0, from = 0, permutation = 0;  // floats from the channel's start; place in `permutations`
};

struct Fills {
    size_t offset = 0;  // of channel 0 with its halo
    const Fill* fills = nullptr;
    size_t count = 0;
    const int32_t* permutations = nullptr;
    float outside = 0;
};

// A tile of rows x cols output vectors.
struct Tile {
    size_t in = 0;                 // bytes from the source's channel 0
    size_t out = 0, residual = 0;  // floats from a channel's start
    uint32_t shape = 0;            // place in the table of tile loops
};

// What becomes of each 2 x 2 of the sums of a convolution before they are written.
enum class Squares : uint8_t { none, maximum, mean };
constexpr uint8_t POOLINGS = 3;

// Lists of 32-bit words: a byte offset from the tile's corner, and a weight for each of `outputs` channels.
struct ConvolutionStep {
    Region source, target, residual;
    bool has_residual = false;
    size_t step_bytes = 0;                       // from one vector of an output row to the next, in the source
    size_t row_bytes = 0;                        // from one output row to the next, in the source
    size_t groups = 0, outputs = 1, blocks = 1;  // lists of one block of input channels, channels a list, blocks
    const uint32_t* starts = nullptr;            // blocks x groups + 1: words
    const uint32_t* words = nullptr;
    const float* bias = nullptr;
    const Tile* tiles = nullptr;
    size_t tile_count = 0;
    const size_t* work = nullptr;  // groups + 1: entries in all blocks before each group
    Activation activation;
    Squares pooling = Squares::none;
    Fills fills;
};

// Tiles of 2 x 2 outputs by Winograd's minimal filtering: each 4 x 4 vectors of every source channel are turned into 16
// products' factors. They are kept for groups of tiles, one after the other: 16 planes of channels x tiles of the
// group.
struct SpreadStep {
    Region source;  // its offset is that of the first window's corner; rows and cols that are there from it on
    size_t target = 0;
    size_t tile_rows = 0, tile_cols = 0;
};

// The rest: sums of products over the source's channels, turned back into outputs.
struct FilterStep {
    size_t source = 0, inputs = 0;  // what was spread: floats, channels
    size_t tile_rows = 0, tile_cols = 0;
    Region target, residual;
    bool has_residual = false;
    const float* weights = nullptr;  // chunks of `filtered` channels: 16 x inputs x filtered
    const float* bias = nullptr;     // for whole chunks
    Activation activation;
    Fills fills;
};

struct PoolStep {
    Region source, target;         // the source's offset is that of the first window's corner
    const size_t* taps = nullptr;  // bytes
    size_t tap_count = 0;
    size_t step_bytes = 0, row_bytes = 0;
    bool maximum = false;
    float scale = 1;
    const float* scales = nullptr;  // rows x cols x LANES, or null
    Fills fills;
};

enum class Operation : uint8_t {
    add,
    subtract,
    multiply,
    divide,
    maximum,
    minimum,
    power,
    equal,
    not_equal,
    less,
    less_equal,
    greater,
    greater_equal,
};
constexpr uint8_t OPERATIONS = 13;

// to = activation(a op b); how b is read:
enum class Other : uint8_t { nothing, vectors, channel_vectors, channel_floats };

struct MapStep {
    Region a, to, b;  // b.offset and b.channel alone for channel_*
    Other other = Other::nothing;
    Operation operation = Operation::add;
    bool swapped = false;
    const float* scale = nullptr;  // one for each channel, or null
    const float* shift = nullptr;
    Activation activation;
    Fills fills;
};

struct ReduceStep {
    Region source;
    size_t target = 0;  // floats; one float or, lane by lane, one vector for each channel
    bool maximum = false, lanes = false;
    float scale = 1;
    const float* outside = nullptr;  // rows x cols x LANES: 1 where a float does not count, else 0; or null
};

// target[c * target_step + j] = source[c * source_step + table[j]]
struct GatherStep {
    size_t source = 0, source_step = 0;
    size_t target = 0, target_step = 0;
    size_t channels = 0, count = 0;
    const int32_t* table = nullptr;
    float outside = 0;
};

// target[j * LANES + s] = source[s * sample + table[j]] and back
struct LanesStep {
    size_t sample = 0;
    size_t arena = 0;
    size_t count = 0;
    const int32_t* table = nullptr;
    float outside = 0;
};

// Rows of a sparse matrix in slices of LANES rows: for each step a 16-bit column and a weight for each lane.
struct MultiplyStep {
    size_t source = 0, target = 0, residual = 0;
    bool has_residual = false;
    size_t rows = 0, columns = 0, slices = 0;
    const uint32_t* starts = nullptr;  // slices + 1: steps
    const uint16_t* indices = nullptr;
    const uint32_t* wide = nullptr;  // instead, where there are too many columns; neither: all of them
    const float* values = nullptr;
    const uint32_t* order = nullptr;  // slices x LANES: the row of each lane; `rows` where there is none
    const float* bias = nullptr;      // slices x LANES, in the order of the lanes
    Activation activation;
};

enum class Along : uint8_t { sum, maximum, minimum, softmax, normalize };
constexpr uint8_t ALONG = 5;

// Along the middle of [outer, count, inner] floats: to [outer, inner] for the first three, to the same shape otherwise.
struct AlongStep {
    size_t source = 0, target = 0;
    size_t outer = 0, count = 0, inner = 0;
    Along how = Along::sum;
    float scale = 1;                // of sums; epsilon where it normalizes
    bool centred = true;            // whether the mean is taken off
    const float* weight = nullptr;  // count each, or null
    const float* bias = nullptr;
};

// [batch, rows, depth] times [batch, depth, columns], or its transpose where the second is [batch, columns, depth]; of
// cells of `width` floats, 1 or LANES, multiplied lane by lane.
struct ProductStep {
    size_t a = 0, b = 0, target = 0;
    size_t batch = 0, rows = 0, depth = 0, columns = 0;
    bool transposed = false, cells = false;
    float scale = 1;
};

// Row source[i] of a table for each i; rows of `columns` cells. What is no row becomes NaN, and is told.
struct LookupStep {
    size_t source = 0, target = 0;
    size_t count = 0, rows = 0, columns = 0;
    bool cells = false;
    const float* table = nullptr;
};

constexpr unsigned POOLED = 3;

struct Loops {
    const char* name;
    unsigned lanes;
    unsigned most_vectors;  // of a tile
    unsigned filtered;      // channels that are filtered at once

    // Multiplies and adds in registers alone, so many times; returns how many operations on floats that were.
    double (*burn)(size_t times);
    // The number of the loop for tiles of rows x cols vectors, `outputs` channels, a step of 1, 2 or (0) any vectors in
    // the source, or (POOLED) of 1 with sums pooled; -1 if there is none.
    int (*shape)(unsigned rows, unsigned cols, unsigned outputs, unsigned step);
    void (*convolve)(const ConvolutionStep&, float* arena, size_t part, size_t parts);
    void (*spread)(const SpreadStep&, float* arena, size_t part, size_t parts);
    void (*filter)(const FilterStep&, float* arena, size_t part, size_t parts);
    void (*pool)(const PoolStep&, float* arena, size_t part, size_t parts);
    void (*map)(const MapStep&, float* arena, size_t part, size_t parts);
    void (*reduce)(const ReduceStep&, float* arena, size_t part, size_t parts);
    void (*gather)(const GatherStep&, const float* source, float* target, size_t part, size_t parts);
    void (*into_lanes)(const LanesStep&, const float* source, size_t samples, float* arena, size_t part, size_t parts);
    void (*from_lanes)(const LanesStep&, const float* arena, size_t samples, float* target, size_t part, size_t parts);
    void (*multiply)(const MultiplyStep&, float* arena, size_t part, size_t parts);
    void (*along)(const AlongStep&, float* arena, size_t part, size_t parts);
    void (*product)(const ProductStep&, float* arena, size_t part, size_t parts);
    bool (*lookup)(const LookupStep&, size_t samples, float* arena, size_t part,
                   size_t parts);  // whether all were rows
};

}  // namespace engine
}  // namespace secateur
