// What runs along an axis, and products of two values; compiled once for each instruction set: SECATEUR_ISA is its
// name.
#include "functions.h"
#include "tiles.h"

namespace secateur {
namespace engine {
namespace SECATEUR_ISA {
namespace {

// Numbers along an axis, a vector of neighbours at a time: `count` of them, `step` floats apart.
struct Column {
    const float* from;
    float* to;
    size_t count, step;

    Floats at(size_t i) const { return load_anywhere(from + i * step); }
    void set(size_t i, Floats x) const { store_anywhere(to + i * step, x); }
    static Floats spread(Floats x) { return x; }
    static Floats greatest_of(Floats x) { return x; }
    static Floats sum_of(Floats x) { return x; }
    Floats weight(const float* weights, size_t i) const { return all(weights[i]); }
    float share() const { return 1.f / static_cast<float>(count); }
};

// Numbers that follow each other; what is left over is filled up.
struct Row {
    const float* from;
    float* to;
    size_t length, count;
    float fill;

    Floats at(size_t i) const {
        const size_t left = length - i * LANES;
        if (left >= LANES) return load_anywhere(from + i * LANES);
        Floats x = all(fill);
        for (size_t lane = 0; lane < left; ++lane) x[lane] = from[i * LANES + lane];
        return x;
    }
    void set(size_t i, Floats x) const {
        const size_t left = length - i * LANES;
        if (left >= LANES) {
            store_anywhere(to + i * LANES, x);
        } else {
            for (size_t lane = 0; lane < left; ++lane) to[i * LANES + lane] = x[lane];
        }
    }
    static Floats greatest_of(Floats x) { return all(greatest(x)); }
    static Floats sum_of(Floats x) { return all(sum(x)); }
    Floats weight(const float* weights, size_t i) const {
        Row other{weights, nullptr, length, count, 0.f};
        return other.at(i);
    }
    float share() const { return 1.f / static_cast<float>(length); }
};

template <class Line>
SECATEUR_INLINE Floats total(const Line& line) {
    Floats sums[2] = {all(0.f), all(0.f)};
    for (size_t i = 0; i < line.count; ++i) sums[i % 2] += line.at(i);
    return line.sum_of(sums[0] + sums[1]);
}

template <class Line>
SECATEUR_INLINE Floats extreme(const Line& line, bool greatest_wanted) {
    Floats most = line.at(0);
    for (size_t i = 1; i < line.count; ++i) {
        const Floats x = line.at(i);
        most = unless_nan(x, greatest_wanted ? less(most, x, x, most) : less(x, most, x, most));
    }
    return most;
}

template <class Line>
SECATEUR_INLINE void softmax(const Line& line) {
    const Floats most = line.greatest_of(extreme(line, true));
    // Where everything is -inf there is nothing to take off.
    const Floats shift = less(most, all(-3.4e38f), all(0.f), most);
    Floats total = all(0.f);
    for (size_t i = 0; i < line.count; ++i) {
        const Floats x = exponential(line.at(i) - shift);
        total += x;
        line.set(i, x);
    }
    // Who sees nothing gets nothing.
    const Floats sums = line.sum_of(total);
    const Floats scale = less(all(0.f), sums, all(1.f) / sums, sums);
    Line written = line;
    written.from = line.to;
    for (size_t i = 0; i < line.count; ++i) line.set(i, written.at(i) * scale);
}

template <class Line>
SECATEUR_INLINE void normalize(const AlongStep& step, const Line& line) {
    const Floats share = all(line.share());
    const Floats mean = step.centred ? total(line) * share : all(0.f);
    Floats squares = all(0.f);
    for (size_t i = 0; i < line.count; ++i) {
        const Floats x = line.at(i) - mean;
        squares += x * x;
    }
    const Floats scale = all(1.f) / root(line.sum_of(squares) * share + all(step.scale));
    for (size_t i = 0; i < line.count; ++i) {
        Floats x = (line.at(i) - mean) * scale;
        if (step.weight != nullptr) x = x * line.weight(step.weight, i);
        if (step.bias != nullptr) x = x + line.weight(step.bias, i);
        line.set(i, x);
    }
}

// What is filled up must not be counted: it is the mean, which is nothing once the mean is taken off.
SECATEUR_INLINE void normalize_row(const AlongStep& step, Row row) {
    if (step.centred) row.fill = total(Row{row.from, nullptr, row.length, row.count, 0.f})[0] * row.share();
    const Floats mean = all(step.centred ? row.fill : 0.f), share = all(row.share());
    Floats squares = all(0.f);
    for (size_t i = 0; i < row.count; ++i) {
        const Floats x = row.at(i) - mean;
        squares += x * x;
    }
    const Floats scale = all(1.f) / root(row.sum_of(squares) * share + all(step.scale));
    for (size_t i = 0; i < row.count; ++i) {
        Floats x = (row.at(i) - mean) * scale;
        if (step.weight != nullptr) x = x * row.weight(step.weight, i);
        if (step.bias != nullptr) x = x + row.weight(step.bias, i);
        row.set(i, x);
    }
}

void along_column(const AlongStep& step, const Column& column) {
    switch (step.how) {
        case Along::sum:
            store_anywhere(column.to, total(column) * all(step.scale));
            break;
        case Along::maximum:
            store_anywhere(column.to, extreme(column, true));
            break;
        case Along::minimum:
            store_anywhere(column.to, extreme(column, false));
            break;
        case Along::softmax:
            softmax(column);
            break;
        case Along::normalize:
            normalize(step, column);
            break;
    }
}

void along_row(const AlongStep& step, const Row& row) {
    switch (step.how) {
        case Along::sum:
            *row.to = total(row)[0] * step.scale;
            break;
        case Along::maximum:
            *row.to = greatest(extreme(row, true));
            break;
        case Along::minimum:
            *row.to = -greatest(all(0.f) - extreme(row, false));
            break;
        case Along::softmax:
            softmax(row);
            break;
        case Along::normalize:
            normalize_row(step, row);
            break;
    }
}

float fill_of(Along how) {
    return how == Along::maximum || how == Along::softmax ? -HUGE_VALF : how == Along::minimum ? HUGE_VALF : 0.f;
}

// Numbers along an axis with neighbours that are no whole vector: copied together, and back.
void along_few(const AlongStep& step, const float* from, float* to, size_t lanes) {
    // A vector's worth of neighbours, of which `lanes` count.
    float kept[64 * LANES];
    if (step.count <= 64) {
        for (size_t i = 0; i < step.count; ++i) {
            for (size_t lane = 0; lane < LANES; ++lane) {
                kept[i * LANES + lane] = lane < lanes ? from[i * step.inner + lane] : 0.f;
            }
        }
        along_column(step, Column{kept, kept, step.count, LANES});
        const size_t rows = step.how >= Along::softmax ? step.count : 1;
        for (size_t i = 0; i < rows; ++i) {
            for (size_t lane = 0; lane < lanes; ++lane) to[i * step.inner + lane] = kept[i * LANES + lane];
        }
        return;
    }
    // Too long for that: one by one.
    const bool same_shape = step.how >= Along::softmax;
    for (size_t lane = 0; lane < lanes; ++lane) {
        double total = 0, squares = 0;
        float most = from[lane], least = from[lane];
        for (size_t i = 0; i < step.count; ++i) {
            const float x = from[i * step.inner + lane];
            total += static_cast<double>(x);
            // A NaN stays.
            if (!(x <= most || most != most)) most = x;
            if (!(x >= least || least != least)) least = x;
        }
        if (!same_shape) {
            to[lane] = step.how == Along::sum       ? static_cast<float>(total) * step.scale
                       : step.how == Along::maximum ? most
                                                    : least;
            continue;
        }
        const bool soft = step.how == Along::softmax;
        const float mean = static_cast<float>(total / static_cast<double>(step.count));
        const float shift = soft ? (most < -3.4e38f ? 0.f : most) : step.centred ? mean : 0.f;
        for (size_t i = 0; i < step.count; ++i) {
            const float x = from[i * step.inner + lane] - shift;
            const float y = soft ? expf(x) : x;
            squares += static_cast<double>(soft ? y : x * x);
            to[i * step.inner + lane] = y;
        }
        const double share = 1.0 / static_cast<double>(step.count);
        const float scale = static_cast<float>(soft ? (squares > 0 ? 1.0 / squares : squares)
                                                    : 1.0 / sqrt(squares * share + static_cast<double>(step.scale)));
        for (size_t i = 0; i < step.count; ++i) {
            float y = to[i * step.inner + lane] * scale;
            if (!soft && step.weight != nullptr) y *= step.weight[i];
            if (!soft && step.bias != nullptr) y += step.bias[i];
            to[i * step.inner + lane] = y;
        }
    }
}

// rows x depth times depth x columns, where columns follow each other.
void product_rows(const ProductStep& step, const float* a, const float* b, float* to) {
    const size_t whole = step.columns / LANES * LANES;
    for (size_t r = 0; r < step.rows; ++r) {
        for (size_t c = 0; c < whole; c += LANES) {
            Floats sums[2] = {all(0.f), all(0.f)};
            for (size_t k = 0; k < step.depth; ++k) {
                sums[k % 2] += all(a[r * step.depth + k]) * load_anywhere(b + k * step.columns + c);
            }
            store_anywhere(to + r * step.columns + c, (sums[0] + sums[1]) * all(step.scale));
        }
        for (size_t c = whole; c < step.columns; ++c) {
            float total = 0;
            for (size_t k = 0; k < step.depth; ++k) total += a[r * step.depth + k] * b[k * step.columns + c];
            to[r * step.columns + c] = total * step.scale;
        }
    }
}

// rows x depth times the transpose of columns x depth: depths follow each other.
void product_dots(const ProductStep& step, const float* a, const float* b, float* to) {
    const size_t whole = step.depth / LANES * LANES;
    for (size_t r = 0; r < step.rows; ++r) {
        for (size_t c = 0; c < step.columns; ++c) {
            const float* const x = a + r * step.depth;
            const float* const y = b + c * step.depth;
            Floats sums = all(0.f);
            for (size_t k = 0; k < whole; k += LANES) sums += load_anywhere(x + k) * load_anywhere(y + k);
            float total = whole > 0 ? sum(sums) : 0.f;
            for (size_t k = whole; k < step.depth; ++k) total += x[k] * y[k];
            to[r * step.columns + c] = total * step.scale;
        }
    }
}

void product_cells(const ProductStep& step, const float* a, const float* b, float* to) {
    const size_t next = step.transposed ? 1 : step.columns, other = step.transposed ? step.depth : 1;
    for (size_t r = 0; r < step.rows; ++r) {
        for (size_t c = 0; c < step.columns; ++c) {
            Floats sums[2] = {all(0.f), all(0.f)};
            for (size_t k = 0; k < step.depth; ++k) {
                sums[k % 2] += load(a + (r * step.depth + k) * LANES) * load(b + (k * next + c * other) * LANES);
            }
            store(to + (r * step.columns + c) * LANES, (sums[0] + sums[1]) * all(step.scale));
        }
    }
}

}  // namespace

void along(const AlongStep& step, float* arena, size_t part, size_t parts) {
    const bool reduces = step.how < Along::softmax;
    const size_t pieces = (step.inner + LANES - 1) / LANES;  // vectors of neighbours
    const size_t end = cut(step.outer * pieces, part + 1, parts);
    for (size_t i = cut(step.outer * pieces, part, parts); i < end; ++i) {
        const size_t outer = i / pieces, inner = i % pieces * LANES;
        const float* const from = arena + step.source + outer * step.count * step.inner + inner;
        float* const to = arena + step.target + outer * (reduces ? 1 : step.count) * step.inner + inner;
        if (step.inner == 1) {
            along_row(step, Row{from, to, step.count, (step.count + LANES - 1) / LANES, fill_of(step.how)});
        } else if (inner + LANES <= step.inner) {
            along_column(step, Column{from, to, step.count, step.inner});
        } else {
            along_few(step, from, to, step.inner - inner);
        }
    }
}

void product(const ProductStep& step, float* arena, size_t part, size_t parts) {
    const size_t width = step.cells ? LANES : 1;
    // By matrices where there are several, else by rows.
    const bool by_batch = step.batch >= parts;
    const size_t first = by_batch ? cut(step.batch, part, parts) : 0;
    const size_t last = by_batch ? cut(step.batch, part + 1, parts) : step.batch;
    const size_t begin = by_batch ? 0 : cut(step.rows, part, parts);
    ProductStep mine = step;
    mine.rows = by_batch ? step.rows : cut(step.rows, part + 1, parts) - begin;
    for (size_t i = first; i < last; ++i) {
        const float* const a = arena + step.a + (i * step.rows + begin) * step.depth * width;
        const float* const b = arena + step.b + i * step.depth * step.columns * width;
        float* const to = arena + step.target + (i * step.rows + begin) * step.columns * width;
        if (step.cells) {
            product_cells(mine, a, b, to);
        } else if (step.transposed) {
            product_dots(mine, a, b, to);
        } else {
            product_rows(mine, a, b, to);
        }
    }
}

bool lookup(const LookupStep& step, size_t samples, float* arena, size_t part, size_t parts) {
    bool known = true;
    const size_t width = step.cells ? LANES : 1;
    const size_t end = cut(step.count, part + 1, parts);
    for (size_t i = cut(step.count, part, parts); i < end; ++i) {
        for (size_t lane = 0; lane < width; ++lane) {
            const float wanted = arena[step.source + i * width + lane];
            const bool there = wanted >= 0 && wanted < static_cast<float>(step.rows);
            if (!there && (!step.cells || lane < samples)) known = false;
            const float* const row = step.table + (there ? static_cast<size_t>(wanted) : 0) * step.columns;
            float* const to = arena + step.target + i * step.columns * width + lane;
            for (size_t c = 0; c < step.columns; ++c) to[c * width] = there ? row[c] : NAN;
        }
    }
    return known;
}

}  // namespace SECATEUR_ISA
}  // namespace engine
}  // namespace secateur
