// A compiled network: a flat list of steps over one block of floats, the arena.
//
// What the network computes is laid out in vectors of `lanes` floats. Two kinds of programs are built from one network:
//
// - one sample a pass: an image is cut into a grid of as many blocks as there are lanes, and lane i of every vector
//   holds block i. Neighbours of a pixel then lie in neighbouring vectors, whatever the lane, so that convolutions of
//   any stride read whole aligned vectors. Around its block each lane keeps a copy of what its neighbours hold there,
//   the halo. Values without positions (after pooling or flattening) are plain arrays of floats.
// - one sample a lane: vectors run over the samples of a batch, and no lane looks at another.
//
// Everything is checked while a program is built; one that could be built reads and writes nothing outside its arena,
// its inputs and its outputs, whatever numbers it is given. What does not fit throws std::invalid_argument.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace secateur {
namespace engine {

// Where the vectors of a value lie in the arena: channels of rows of vectors. The offset and the strides count floats
// and are multiples of `lanes`.
struct Map {
    std::size_t offset = 0;
    std::size_t channels = 0, channel = 0;
    std::size_t rows = 0, row = 0;
    std::size_t cols = 0;
};

// A plain array of floats in the arena.
struct Span {
    std::size_t offset = 0, size = 0;
};

// An activation function by its number (see steps.h) and what it may need.
struct Applied {
    int function = 0;
    float alpha = 0, beta = 0;
};

// What is written over after a value was computed: of every channel, vector `to` becomes vector `from` with its lanes
// moved. fills: triples of to, from and permutation, carried out in this order; vectors are counted from `offset`,
// where channel 0 begins with its halo. permutations: `lanes` numbers each, the lane that a lane is taken from, or -1
// for `outside`.
struct Halo {
    std::size_t offset = 0;
    std::vector<std::uint32_t> fills;
    std::vector<std::int32_t> permutations;
    float outside = 0;
};

// A window that slides over a map: the place of the first one's corner, steps and distances of its taps, in vectors.
struct Window {
    std::size_t top = 0, left = 0;
    std::size_t stride_rows = 1, stride_cols = 1;
    std::size_t height = 1, width = 1;
    std::size_t dilation_rows = 1, dilation_cols = 1;
};

// How a convolution is carried out: tiles of rows x cols vectors, `outputs` channels at a time, input channels in
// blocks of `block`. It changes the speed and, as sums are ordered otherwise, the last digits.
struct Tiling {
    std::size_t rows = 1, cols = 8, outputs = 1, block = 1;
};

// A matrix without its zeros: row r has columns[starts[r]] up to columns[starts[r + 1]], in ascending order.
struct Sparse {
    std::vector<std::uint32_t> starts, columns;
    std::vector<float> values;
};

// One end of a transfer: the arena (port -1), or an input or output; from `offset` floats on, `step` floats a channel.
struct Place {
    int port = -1;
    std::size_t offset = 0, step = 0;
};

class Program {
public:
    // kernels: an instruction set by name, empty for the best there is. arena: floats.
    // Arrays for one sample have so many floats: inputs, outputs.
    Program(const std::string& kernels, std::size_t arena, std::vector<std::size_t> inputs,
            std::vector<std::size_t> outputs, bool samples_in_lanes);
    ~Program();
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;

    std::size_t lanes() const;
    const char* kernels() const;
    std::size_t size() const;  // steps

    // Floats that are in the arena from the beginning on.
    void constant(std::size_t offset, const std::vector<float>& values);

    // Float j of channel c becomes float table[j] of channel c on the other side, `outside` where table[j] is -1.
    void gather(const Place& from, const Place& to, std::size_t channels, const std::vector<std::int32_t>& table,
                float outside);
    // One sample a lane: vector j from `offset` on becomes element table[j] of every sample of an input, `outside`
    // where that is -1; element j of every sample of an output becomes vector table[j] from `offset` on.
    void read_lanes(int input, std::size_t offset, const std::vector<std::int32_t>& table, float outside);
    void write_lanes(std::size_t offset, int output, const std::vector<std::int32_t>& table);

    // weights: a row for each channel of `to`; columns are (channel of its group * height + y) * width + x.
    // residual: of the channels, rows and cols of `to`, added before the activation; may be null.
    // pooling: 0 none; 1 and 2: `to` holds the maxima and the means of each 2 x 2 vectors.
    void convolve(const Map& from, const Map& to, const Window& window, std::size_t groups, const Sparse& weights,
                  const std::vector<float>& bias, const Map* residual, const Applied& activation, const Halo& halo,
                  const Tiling& tiling, int pooling = 0);
    // The same for windows of 3 x 3 that move by one vector, with all weights, zeros too, and less than half as many
    // multiplications (Winograd's minimal filtering F(2x2, 3x3)). scratch: 16 * (channels of `from` + 1) vectors for
    // each 2 x 2 vectors of a channel of `to`.
    void filter(const Map& from, const Map& to, std::size_t top, std::size_t left, const Sparse& weights,
                const std::vector<float>& bias, const Map* residual, const Applied& activation, const Halo& halo,
                const Span& scratch);
    // Maxima, or sums times `scales`: one, or one for each float of the rows x cols vectors of a channel.
    void pool(const Map& from, const Map& to, const Window& window, bool maximum, const std::vector<float>& scales,
              const Halo& halo);
    // to = activation(a * scale + shift), one scale and shift for each channel, or none.
    void map(const Map& a, const Map& to, const std::vector<float>& scale, const std::vector<float>& shift,
             const Applied& activation, const Halo& halo);
    // to = activation(a operation b). b: of the same shape, or (rows = cols = 1) a vector for each channel.
    void combine(int operation, const Map& a, const Map& b, const Map& to, bool swapped, const Applied& activation,
                 const Halo& halo);
    // The same with one float for each channel.
    void combine_channels(int operation, const Map& a, const Span& b, const Map& to, bool swapped,
                          const Applied& activation, const Halo& halo);
    // The sum or maximum of all floats of each channel but those whose flag in `outside` (rows x cols x lanes, or
    // empty) is set, times scale: one float for each channel. Or lane by lane: a vector for each.
    void reduce(const Map& from, const Span& to, bool maximum, float scale, const std::vector<std::uint8_t>& outside);
    void reduce_lanes(const Map& from, const Span& to, bool maximum, float scale);
    // Plain arrays: to = activation(weights from + bias + residual), a row of weights for each float of `to`. dense:
    // zeros are multiplied too.
    void multiply(const Span& from, const Span& to, const Sparse& weights, const std::vector<float>& bias,
                  const Span* residual, const Applied& activation, bool dense);

    // Along the middle of [outer, count, inner] floats. how: 0 sums times scale, 1 maxima, 2 minima, to [outer, inner];
    // 3 softmax, 4 normalization with scale as epsilon, centred or not, then times weight plus bias (`count` each, or
    // none), to the same shape.
    void along(const Span& from, const Span& to, std::size_t outer, std::size_t count, std::size_t inner, int how,
               float scale, bool centred, const std::vector<float>& weight, const std::vector<float>& bias);
    // Products of [batch, rows, depth] and [batch, depth, columns], or [batch, columns, depth] if transposed, times
    // scale. Elements are vectors where samples are in lanes.
    void product(const Span& a, const Span& b, const Span& to, const std::vector<std::size_t>& sizes, bool transposed,
                 float scale);
    // Row from[i] of a table of rows x columns numbers for every i; run() throws std::out_of_range where there is none.
    void lookup(const Span& from, const Span& to, std::size_t rows, std::size_t columns,
                const std::vector<float>& table);

    // Computes `samples` samples on up to so many threads; may be called from several threads at once. seconds: of each
    // step, added up, on one thread; may be null.
    void run(const std::vector<const float*>& inputs, const std::vector<float*>& outputs, std::size_t samples,
             unsigned threads, double* seconds = nullptr) const;

    struct Private;

private:
    std::unique_ptr<Private> own_;
};

// What one thread can do at most with multiplications and additions in registers: floating-point operations a second,
// measured for some milliseconds. kernels: as of a program.
double peak(const std::string& kernels);

}  // namespace engine
}  // namespace secateur
