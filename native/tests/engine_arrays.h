// Calls of a program on arrays: products with matrices and of two values, what runs along an axis, rows of a table.
#pragma once

#include "engine_numbers.h"

namespace testing {

template <class Visit>
void each(Span& span, Visit visit) {
    visit(span.offset);
    visit(span.size);
}

struct Multiplication {
    Span from, to, residual;
    bool has_residual = false, dense = false;
    Sparse matrix;
    std::vector<float> bias;
    Applied activation;

    void add(Program& program) const {
        program.multiply(from, to, matrix, bias, has_residual ? &residual : nullptr, activation, dense);
    }

    template <class Visit>
    void numbers(Visit visit) {
        for (Span* span : {&from, &to, &residual}) each(*span, visit);
        each(matrix, visit);
        visit(activation.function);
    }

    template <class Visit>
    void lists(Visit visit) {
        visit(matrix.starts);
        visit(matrix.columns);
        visit(matrix.values);
        visit(bias);
    }

    void expect(Doubles& arena, std::size_t) const {
        const Doubles before = arena;
        for (std::size_t row = 0; row < to.size; ++row) {
            double total = bias.empty() ? 0 : static_cast<double>(bias[row]);
            for (std::size_t i = matrix.starts[row]; i < matrix.starts[row + 1]; ++i) {
                total += static_cast<double>(matrix.values[i]) * before[from.offset + matrix.columns[i]];
            }
            if (has_residual) total += before[residual.offset + row];
            arena[to.offset + row] = activated(activation, total);
        }
    }
};

inline Multiplication multiplication(Random& random, Layout& layout, std::size_t columns = 0) {
    Multiplication made;
    const std::size_t rows = size(random, 1, 50);
    if (columns == 0) columns = size(random, 1, 70);
    made.from = layout.span(random, columns);
    made.to = layout.span(random, rows);
    made.residual = layout.span(random, rows);
    made.has_residual = chance(random, 50);
    made.dense = chance(random, 40);
    made.matrix = weights(random, rows, columns);
    if (chance(random, 60)) made.bias = numbers(random, rows);
    made.activation = activation(random);
    return made;
}

// 0 sums, 1 maxima, 2 minima, 3 softmax, 4 normalization.
struct Alongside {
    Span from, to;
    std::size_t outer = 1, count = 1, inner = 1;
    int how = 0;
    float scale = 1;
    bool centred = true;
    std::vector<float> weight, bias;

    void add(Program& program) const {
        program.along(from, to, outer, count, inner, how, scale, centred, weight, bias);
    }

    template <class Visit>
    void numbers(Visit visit) {
        for (Span* span : {&from, &to}) each(*span, visit);
        for (std::size_t* field : {&outer, &count, &inner}) visit(*field);
        visit(how);
    }

    template <class Visit>
    void lists(Visit visit) {
        visit(weight);
        visit(bias);
    }

    double line(const Doubles& x, Doubles& y) const {
        double total = 0, most = x[0], least = x[0], squares = 0, mean = 0;
        for (const double one : x) {
            total += one;
            most = std::isnan(most) || most >= one ? most : one;
            least = std::isnan(least) || least <= one ? least : one;
        }
        if (how < 3) return how == 0 ? total * static_cast<double>(scale) : how == 1 ? most : least;
        if (how == 4 && centred) mean = total / static_cast<double>(count);
        const double shift = how == 4 ? mean : std::isinf(most) && most < 0 ? 0 : most;
        for (std::size_t i = 0; i < count; ++i) {
            y[i] = how == 4 ? x[i] - shift : std::exp(x[i] - shift);
            squares += how == 4 ? y[i] * y[i] : y[i];
        }
        double factor = squares > 0 || std::isnan(squares) ? 1 / squares : 0;
        if (how == 4) factor = 1 / std::sqrt(squares / static_cast<double>(count) + static_cast<double>(scale));
        for (std::size_t i = 0; i < count; ++i) {
            y[i] *= factor;
            if (how == 4 && !weight.empty()) y[i] *= static_cast<double>(weight[i]);
            if (how == 4 && !bias.empty()) y[i] += static_cast<double>(bias[i]);
        }
        return 0;
    }

    void expect(Doubles& arena, std::size_t) const {
        Doubles x(count), y(count);
        for (std::size_t i = 0; i < outer * inner; ++i) {
            const std::size_t first = i / inner * count * inner + i % inner;
            for (std::size_t k = 0; k < count; ++k) x[k] = arena[from.offset + first + k * inner];
            const double one = line(x, y);
            if (how < 3) arena[to.offset + i] = one;
            for (std::size_t k = 0; how >= 3 && k < count; ++k) arena[to.offset + first + k * inner] = y[k];
        }
    }
};

inline Alongside alongside(Random& random, Layout& layout) {
    Alongside made;
    made.outer = size(random, 1, 4);
    made.count = chance(random, 20) ? size(random, 60, 80) : size(random, 1, 40);
    made.inner = chance(random, 40) ? 1 : size(random, 1, 37);
    made.how = static_cast<int>(random.below(secateur::engine::ALONG));
    made.scale = 0.5f;
    made.centred = chance(random, 50);
    if (chance(random, 50)) made.weight = numbers(random, made.count);
    if (chance(random, 50)) made.bias = numbers(random, made.count);
    const std::size_t lines = made.outer * made.inner;
    made.from = layout.span(random, lines * made.count);
    made.to = made.how >= 3 && chance(random, 40) ? made.from
                                                  : layout.span(random, made.how < 3 ? lines : lines * made.count);
    return made;
}

struct Multiplied {
    Span a, b, to;
    std::vector<std::size_t> sizes;
    bool transposed = false, cells = false;
    float scale = 1;

    void add(Program& program) const { program.product(a, b, to, sizes, transposed, scale); }

    template <class Visit>
    void numbers(Visit visit) {
        for (Span* span : {&a, &b, &to}) each(*span, visit);
        for (std::size_t& field : sizes) visit(field);
    }

    template <class Visit>
    void lists(Visit visit) {
        visit(sizes);
    }

    void expect(Doubles& arena, std::size_t lanes) const {
        const std::size_t rows = sizes[1], depth = sizes[2], columns = sizes[3], width = cells ? lanes : 1;
        for (std::size_t i = 0; i < sizes[0] * rows * columns * width; ++i) {
            const std::size_t lane = i % width, c = i / width % columns, r = i / width / columns % rows;
            const std::size_t batch = i / width / columns / rows;
            double total = 0;
            for (std::size_t k = 0; k < depth; ++k) {
                const std::size_t other =
                    transposed ? (batch * columns + c) * depth + k : (batch * depth + k) * columns + c;
                total += arena[a.offset + ((batch * rows + r) * depth + k) * width + lane] *
                         arena[b.offset + other * width + lane];
            }
            arena[to.offset + i] = total * static_cast<double>(scale);
        }
    }
};

inline Multiplied multiplied(Random& random, Layout& layout, bool cells) {
    Multiplied made;
    made.cells = cells;
    made.sizes = {size(random, 1, 4), size(random, 1, 7), size(random, 1, 40), size(random, 1, 40)};
    if (cells) made.sizes = {size(random, 1, 3), size(random, 1, 4), size(random, 1, 6), size(random, 1, 6)};
    const std::size_t each_one = made.sizes[0] * (cells ? layout.lanes : 1);
    made.a = layout.span(random, each_one * made.sizes[1] * made.sizes[2], cells);
    made.b = layout.span(random, each_one * made.sizes[2] * made.sizes[3], cells);
    made.to = layout.span(random, each_one * made.sizes[1] * made.sizes[3], cells);
    made.transposed = chance(random, 50);
    made.scale = 0.5f;
    return made;
}

struct Lookup {
    Span from, to;
    std::size_t rows = 1, columns = 1;
    std::vector<float> table;
    bool cells = false;

    void add(Program& program) const { program.lookup(from, to, rows, columns, table); }

    template <class Visit>
    void numbers(Visit visit) {
        for (Span* span : {&from, &to}) each(*span, visit);
        visit(rows);
        visit(columns);
    }

    template <class Visit>
    void lists(Visit visit) {
        visit(table);
    }

    // Indices that are there.
    void indices(Random& random, std::vector<float>& arena) const {
        for (std::size_t i = 0; i < from.size; ++i) arena[from.offset + i] = static_cast<float>(random.below(rows));
    }

    void expect(Doubles& arena, std::size_t lanes) const {
        const std::size_t width = cells ? lanes : 1;
        for (std::size_t i = 0; i < from.size; ++i) {
            const auto row = static_cast<std::size_t>(arena[from.offset + i]);
            for (std::size_t c = 0; c < columns; ++c) {
                arena[to.offset + (i / width * columns + c) * width + i % width] =
                    static_cast<double>(table[row * columns + c]);
            }
        }
    }
};

inline Lookup looked_up(Random& random, Layout& layout, bool cells) {
    Lookup made;
    made.cells = cells;
    made.rows = size(random, 1, 30);
    made.columns = size(random, 1, 20);
    made.table = numbers(random, made.rows * made.columns);
    const std::size_t count = size(random, 1, 9) * (cells ? layout.lanes : 1);
    made.from = layout.span(random, count, cells);
    made.to = layout.span(random, count * made.columns, cells);
    return made;
}

}  // namespace testing
