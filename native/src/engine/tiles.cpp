// Convolutions, compiled once for each instruction set: SECATEUR_ISA is its name.
//
// A tile of output vectors is held in registers while the weights of its channel that are not zero pass by: each is
// spread over a vector, and multiplied with as many vectors of the source as the tile has. Weights are lists of words:
// the place in the source, counted from the tile's corner, and the weight, or the weights of several channels that are
// held at once.
#include "tiles.h"

#include "functions.h"

namespace secateur {
namespace engine {
namespace SECATEUR_ISA {
namespace {

// What changes from tile to tile and from block to block of input channels.
struct Pass {
    const char* source;
    float* target;
    const float* residual;
    const uint32_t* starts;
    size_t first, last;  // groups
    bool begin, end;     // of the sum over all blocks
};

typedef void (*Loop)(const ConvolutionStep&, const Pass&);

constexpr unsigned HELD = REGISTERS == 32 ? 28 : 12;

SECATEUR_INLINE float weight_of(const uint32_t* word) {
    float weight;
    memcpy(&weight, word, sizeof weight);
    return weight;
}

// One vector of what 2 x 2 sums become.
SECATEUR_INLINE Floats pooled(const ConvolutionStep& step, Floats a, Floats b, Floats c, Floats d) {
    const auto greater = [](Floats x, Floats y) { return unless_nan(y, less(x, y, y, x)); };
    a = activated(step.activation, a);
    b = activated(step.activation, b);
    c = activated(step.activation, c);
    d = activated(step.activation, d);
    return step.pooling == Squares::maximum ? greater(greater(greater(a, b), c), d) : (a + b + c + d) * all(0.25f);
}

template <unsigned ROWS, unsigned COLS, unsigned OUTPUTS, unsigned STEP>
void loop(const ConvolutionStep& step, const Pass& pass) {
    // So many sums side by side that none has to wait for itself.
    constexpr unsigned HELD_HERE = ROWS * COLS * OUTPUTS;
    constexpr unsigned SIDE = HELD_HERE == 1 ? 4 : HELD_HERE <= 4 ? 2 : 1;
    constexpr size_t WORDS = 1 + OUTPUTS;
    const char* corner[ROWS];
    for (unsigned r = 0; r < ROWS; ++r) corner[r] = pass.source + r * step.row_bytes;
    constexpr bool POOLS = STEP == POOLED;
    const size_t across = STEP == 0 ? step.step_bytes : (POOLS ? 1 : STEP) * LANES * sizeof(float);
    for (size_t group = pass.first; group < pass.last; ++group) {
        const size_t channel = group * OUTPUTS;
        float* const target = pass.target + channel * step.target.channel;
        Floats sums[SIDE][OUTPUTS][ROWS][COLS];
        for (unsigned o = 0; o < OUTPUTS; ++o) {
            // The last list may have more channels than are left.
            const bool fresh = POOLS || pass.begin || (OUTPUTS > 1 && channel + o >= step.target.channels);
            const float* const before = target + o * step.target.channel;
            for (unsigned r = 0; r < ROWS; ++r) {
                for (unsigned c = 0; c < COLS; ++c) {
                    sums[0][o][r][c] =
                        fresh ? all(step.bias[channel + o]) : load(before + r * step.target.row + c * LANES);
                    for (unsigned s = 1; s < SIDE; ++s) sums[s][o][r][c] = all(0.f);
                }
            }
        }
        const uint32_t* word = step.words + pass.starts[group];
        const uint32_t* const end = step.words + pass.starts[group + 1];
        for (; word + (SIDE - 1) * WORDS < end; word += SIDE * WORDS) {
            for (unsigned s = 0; s < SIDE; ++s) {
                const uint32_t* const entry = word + s * WORDS;
                const size_t place = entry[0];
                Floats weights[OUTPUTS];
                for (unsigned o = 0; o < OUTPUTS; ++o) weights[o] = all(weight_of(entry + 1 + o));
                for (unsigned r = 0; r < ROWS; ++r) {
                    for (unsigned c = 0; c < COLS; ++c) {
                        const Floats x = load(reinterpret_cast<const float*>(corner[r] + place + c * across));
                        for (unsigned o = 0; o < OUTPUTS; ++o) sums[s][o][r][c] += weights[o] * x;
                    }
                }
            }
        }
        if (SIDE > 1) {
            for (; word < end; word += WORDS) {
                for (unsigned o = 0; o < OUTPUTS; ++o) {
                    const Floats weight = all(weight_of(word + 1 + o));
                    for (unsigned r = 0; r < ROWS; ++r) {
                        for (unsigned c = 0; c < COLS; ++c) {
                            sums[0][o][r][c] +=
                                weight * load(reinterpret_cast<const float*>(corner[r] + word[0] + c * across));
                        }
                    }
                }
            }
        }
        for (unsigned o = 0; o < OUTPUTS; ++o) {
            if (OUTPUTS > 1 && channel + o >= step.target.channels) break;
            if constexpr (POOLS) {
                for (unsigned r = 0; r + 1 < ROWS; r += 2) {
                    for (unsigned c = 0; c + 1 < COLS; c += 2) {
                        Floats four[4];
                        for (unsigned i = 0; i < 4; ++i) {
                            four[i] = sums[0][o][r + i / 2][c + i % 2];
                            for (unsigned s = 1; s < SIDE; ++s) four[i] += sums[s][o][r + i / 2][c + i % 2];
                        }
                        store(target + o * step.target.channel + r / 2 * step.target.row + c / 2 * LANES,
                              pooled(step, four[0], four[1], four[2], four[3]));
                    }
                }
                continue;
            }
            for (unsigned r = 0; r < ROWS; ++r) {
                for (unsigned c = 0; c < COLS; ++c) {
                    Floats x = sums[0][o][r][c];
                    for (unsigned s = 1; s < SIDE; ++s) x += sums[s][o][r][c];
                    if (pass.end) {
                        if (step.has_residual) {
                            x += load(pass.residual + (channel + o) * step.residual.channel + r * step.residual.row +
                                      c * LANES);
                        }
                        x = activated(step.activation, x);
                    }
                    store(target + o * step.target.channel + r * step.target.row + c * LANES, x);
                }
            }
        }
    }
}

constexpr unsigned ROWS = 4, COLS = 8, OUTPUTS[] = {1, 2, 4, 8}, OUTPUT_KINDS = 4, STEPS = 4;

template <unsigned R, unsigned C, unsigned O, unsigned S>
constexpr Loop loop_or_none() {
    // Several channels at once are worth it with short tiles alone; odd steps are rare.
    if constexpr (R * C * O > HELD || (O > 1 && R > 2) || (S == 0 && (O > 1 || R > 1 || C > 4)) ||
                  (S == POOLED && (R % 2 != 0 || C % 2 != 0))) {
        return nullptr;
    } else {
        return loop<R, C, O, S>;
    }
}

struct Table {
    Loop loops[STEPS][OUTPUT_KINDS][ROWS][COLS];
};

template <unsigned S, unsigned O, unsigned R>
constexpr void fill_row(Table& table) {
    Loop* const row = table.loops[S][O][R - 1];
    row[0] = loop_or_none<R, 1, OUTPUTS[O], S>();
    row[1] = loop_or_none<R, 2, OUTPUTS[O], S>();
    row[2] = loop_or_none<R, 3, OUTPUTS[O], S>();
    row[3] = loop_or_none<R, 4, OUTPUTS[O], S>();
    row[4] = loop_or_none<R, 5, OUTPUTS[O], S>();
    row[5] = loop_or_none<R, 6, OUTPUTS[O], S>();
    row[6] = loop_or_none<R, 7, OUTPUTS[O], S>();
    row[7] = loop_or_none<R, 8, OUTPUTS[O], S>();
}

template <unsigned S, unsigned O>
constexpr void fill_rows(Table& table) {
    fill_row<S, O, 1>(table);
    fill_row<S, O, 2>(table);
    fill_row<S, O, 3>(table);
    fill_row<S, O, 4>(table);
}

template <unsigned S>
constexpr void fill_outputs(Table& table) {
    fill_rows<S, 0>(table);
    fill_rows<S, 1>(table);
    fill_rows<S, 2>(table);
    fill_rows<S, 3>(table);
}

constexpr Table made() {
    Table table{};
    fill_outputs<0>(table);
    fill_outputs<1>(table);
    fill_outputs<2>(table);
    fill_outputs<POOLED>(table);
    return table;
}

constexpr Table TABLE = made();

}  // namespace

int shape(unsigned rows, unsigned cols, unsigned outputs, unsigned step) {
    unsigned kind = 0;
    while (kind < OUTPUT_KINDS && OUTPUTS[kind] != outputs) ++kind;
    if (kind == OUTPUT_KINDS || rows < 1 || rows > ROWS || cols < 1 || cols > COLS || step >= STEPS) return -1;
    if (TABLE.loops[step][kind][rows - 1][cols - 1] == nullptr) return -1;
    return static_cast<int>(((step * OUTPUT_KINDS + kind) * ROWS + rows - 1) * COLS + cols - 1);
}

unsigned most_held() { return HELD; }

// Groups are divided so that each part has about as many entries to go through.
size_t boundary(const ConvolutionStep& step, size_t part, size_t parts) {
    if (part == 0) return 0;
    if (part == parts) return step.groups;
    const size_t wanted = step.work[step.groups] / parts * part;
    size_t low = 0, high = step.groups;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (step.work[middle] < wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void fill(const Fills& fills, float* channel) {
    const Floats outside = all(fills.outside);
    channel += fills.offset;
    for (size_t i = 0; i < fills.count; ++i) {
        const Fill& each = fills.fills[i];
        store(channel + each.to, permuted(load(channel + each.from), fills.permutations + each.permutation, outside));
    }
}

void convolve(const ConvolutionStep& step, float* arena, size_t part, size_t parts) {
    Pass pass{};
    pass.first = boundary(step, part, parts);
    pass.last = boundary(step, part + 1, parts);
    if (pass.first == pass.last) return;
    const char* const source = reinterpret_cast<const char*>(arena + step.source.offset);
    const Loop* const loops = &TABLE.loops[0][0][0][0];
    for (size_t t = 0; t < step.tile_count; ++t) {
        const Tile& tile = step.tiles[t];
        pass.source = source + tile.in;
        pass.target = arena + step.target.offset + tile.out;
        pass.residual = arena + step.residual.offset + tile.residual;
        for (size_t block = 0; block < step.blocks; ++block) {
            pass.starts = step.starts + block * step.groups;
            pass.begin = block == 0;
            pass.end = block + 1 == step.blocks;
            loops[tile.shape](step, pass);
        }
    }
    if (step.fills.count == 0) return;
    size_t last = pass.last * step.outputs;
    if (last > step.target.channels) last = step.target.channels;
    for (size_t channel = pass.first * step.outputs; channel < last; ++channel) {
        fill(step.fills, arena + channel * step.target.channel);
    }
}

}  // namespace SECATEUR_ISA
}  // namespace engine
}  // namespace secateur
