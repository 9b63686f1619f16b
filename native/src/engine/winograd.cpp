// Convolutions of 3 x 3 with all their weights, compiled once for each instruction set: Winograd's minimal filtering.
//
// F(2 x 2, 3 x 3) of Lavin and Gray (2015, arXiv 1509.09308, section 4.1): 16 multiplications where plain loops
// have 36. As neighbours of a pixel lie in neighbouring vectors, turning tiles is adding whole vectors, whatever the
// lanes are.
#include "functions.h"
#include "tiles.h"

namespace secateur {
namespace engine {
namespace SECATEUR_ISA {
namespace {

constexpr size_t POINTS = 16;
constexpr unsigned CHANNELS = REGISTERS == 32 ? 8 : 4, TILES = 3;

// Where the tiles of a step are kept: groups of up to TILES, about equally many each.
struct Groups {
    size_t tiles, count, inputs;

    Groups(size_t all, size_t channels) : tiles(all), count((all + TILES - 1) / TILES), inputs(channels) {}

    size_t first(size_t group) const { return tiles * group / count; }
    size_t width(size_t group) const { return first(group + 1) - first(group); }
    // Floats of one of the planes; a vector more than it has, or lines of all planes would fall on the same cache sets.
    size_t plane(size_t group) const { return (inputs * width(group) + 1) * LANES; }
    size_t begin(size_t group) const { return POINTS * (inputs * first(group) + group) * LANES; }
};

// B' d B for the 4 x 4 vectors at `corner`, of which there are rows x cols; all others count as zeros.
SECATEUR_INLINE void turn(const float* corner, size_t row, size_t rows, size_t cols, float* to, size_t plane) {
    Floats d[4][4];
    for (unsigned i = 0; i < 4; ++i) {
        for (unsigned j = 0; j < 4; ++j) d[i][j] = i < rows && j < cols ? load(corner + i * row + j * LANES) : all(0.f);
    }
    for (unsigned j = 0; j < 4; ++j) {
        const Floats a = d[0][j] - d[2][j], b = d[1][j] + d[2][j], c = d[2][j] - d[1][j], e = d[1][j] - d[3][j];
        d[0][j] = a;
        d[1][j] = b;
        d[2][j] = c;
        d[3][j] = e;
    }
    for (unsigned i = 0; i < 4; ++i) {
        store(to + (4 * i + 0) * plane, d[i][0] - d[i][2]);
        store(to + (4 * i + 1) * plane, d[i][1] + d[i][2]);
        store(to + (4 * i + 2) * plane, d[i][2] - d[i][1]);
        store(to + (4 * i + 3) * plane, d[i][1] - d[i][3]);
    }
}

// A' m A, and all that follows a sum, for one tile of one channel.
SECATEUR_INLINE void turn_back(const FilterStep& step, const float* m, size_t stride, size_t channel, size_t tile,
                               float* arena) {
    const size_t row = tile / step.tile_cols * 2, col = tile % step.tile_cols * 2;
    Floats half[2][4];
    for (unsigned j = 0; j < 4; ++j) {
        const Floats b = load(m + (4 + j) * stride), c = load(m + (8 + j) * stride);
        half[0][j] = load(m + j * stride) + b + c;
        half[1][j] = b - c - load(m + (12 + j) * stride);
    }
    const Floats bias = all(step.bias[channel]);
    for (unsigned i = 0; i < 2 && row + i < step.target.rows; ++i) {
        const Floats* const h = half[i];
        const Floats found[2] = {h[0] + h[1] + h[2] + bias, h[1] - h[2] - h[3] + bias};
        for (unsigned j = 0; j < 2 && col + j < step.target.cols; ++j) {
            Floats x = found[j];
            if (step.has_residual) {
                x += load(arena + step.residual.offset + channel * step.residual.channel +
                          (row + i) * step.residual.row + (col + j) * LANES);
            }
            store(arena + step.target.offset + channel * step.target.channel + (row + i) * step.target.row +
                      (col + j) * LANES,
                  activated(step.activation, x));
        }
    }
}

template <unsigned WIDTH>
SECATEUR_APART void multiply(const float* source, size_t plane, const float* weights, size_t inputs, float* products) {
    for (size_t point = 0; point < POINTS; ++point) {
        Floats sums[CHANNELS][WIDTH];
        for (unsigned o = 0; o < CHANNELS; ++o) {
            for (unsigned t = 0; t < WIDTH; ++t) sums[o][t] = all(0.f);
        }
        const float* x = source + point * plane;
        for (size_t c = 0; c < inputs; ++c) {
            Floats held[WIDTH];
            for (unsigned t = 0; t < WIDTH; ++t) held[t] = load(x + t * LANES);
            for (unsigned o = 0; o < CHANNELS; ++o) {
                const Floats weight = all(weights[o]);
                for (unsigned t = 0; t < WIDTH; ++t) sums[o][t] += weight * held[t];
            }
            x += WIDTH * LANES;
            weights += CHANNELS;
        }
        for (unsigned o = 0; o < CHANNELS; ++o) {
            for (unsigned t = 0; t < WIDTH; ++t) {
                store(products + ((point * CHANNELS + o) * WIDTH + t) * LANES, sums[o][t]);
            }
        }
    }
}

}  // namespace

unsigned filtered() { return CHANNELS; }

void spread(const SpreadStep& step, float* arena, size_t part, size_t parts) {
    const Groups groups(step.tile_rows * step.tile_cols, step.source.channels);
    const size_t last = cut(step.source.channels, part + 1, parts);
    for (size_t group = 0; group < groups.count; ++group) {
        const size_t plane = groups.plane(group), width = groups.width(group);
        for (size_t channel = cut(step.source.channels, part, parts); channel < last; ++channel) {
            const float* const source = arena + step.source.offset + channel * step.source.channel;
            float* const target = arena + step.target + groups.begin(group) + channel * width * LANES;
            for (size_t i = 0; i < width; ++i) {
                const size_t tile = groups.first(group) + i;
                const size_t row = tile / step.tile_cols * 2, col = tile % step.tile_cols * 2;
                const float* const corner = source + row * step.source.row + col * LANES;
                const size_t rows = step.source.rows - row, cols = step.source.cols - col;
                if (rows >= 4 && cols >= 4) {
                    turn(corner, step.source.row, 4, 4, target + i * LANES, plane);
                } else {
                    turn(corner, step.source.row, rows, cols, target + i * LANES, plane);
                }
            }
        }
    }
}

void filter(const FilterStep& step, float* arena, size_t part, size_t parts) {
    const Groups groups(step.tile_rows * step.tile_cols, step.inputs);
    const size_t chunks = (step.target.channels + CHANNELS - 1) / CHANNELS;
    const size_t begin = cut(chunks, part, parts), end = cut(chunks, part + 1, parts);
    alignas(64) float products[POINTS * CHANNELS * TILES * LANES];
    for (size_t group = 0; group < groups.count; ++group) {
        const float* const source = arena + step.source + groups.begin(group);
        const size_t plane = groups.plane(group), width = groups.width(group);
        for (size_t chunk = begin; chunk < end; ++chunk) {
            const float* const weights = step.weights + chunk * POINTS * step.inputs * CHANNELS;
            if (width == 3) {
                multiply<3>(source, plane, weights, step.inputs, products);
            } else if (width == 2) {
                multiply<2>(source, plane, weights, step.inputs, products);
            } else {
                multiply<1>(source, plane, weights, step.inputs, products);
            }
            for (size_t o = 0; o < CHANNELS && chunk * CHANNELS + o < step.target.channels; ++o) {
                for (size_t i = 0; i < width; ++i) {
                    turn_back(step, products + (o * width + i) * LANES, CHANNELS * width * LANES, chunk * CHANNELS + o,
                              groups.first(group) + i, arena);
                }
            }
        }
    }
    if (step.fills.count == 0) return;
    for (size_t channel = begin * CHANNELS; channel < end * CHANNELS && channel < step.target.channels; ++channel) {
        fill(step.fills, arena + channel * step.target.channel);
    }
}

}  // namespace SECATEUR_ISA
}  // namespace engine
}  // namespace secateur
