// What a program does with arrays, on every instruction set, against plain loops in double precision; and samples that
// go into lanes and come back.
#include <stdexcept>

#include "engine_arrays.h"

using namespace testing;

namespace {

template <class Draw>
void holds(Draw draw, int repeats) {
    in_every_set([&](const std::string& kernels, std::size_t lanes) {
        Random random(17);
        for (int repeat = 0; repeat < repeats; ++repeat) {
            Layout layout{lanes};
            const auto call = draw(random, layout);
            CHECK(right(kernels, call, floats(random, layout)));
        }
    });
}

// Samples that go into lanes and come back in another order; returns what a program made of them.
std::vector<float> there_and_back(const std::string& kernels, const std::vector<float>& given, std::size_t samples,
                                  const std::vector<std::int32_t>& in, const std::vector<std::int32_t>& out,
                                  unsigned threads) {
    const std::size_t lanes = lanes_of(kernels), one = given.size() / samples;
    Program program(kernels, in.size() * lanes, {one}, {out.size()}, true);
    program.read_lanes(0, 0, in, -7.f);
    program.write_lanes(0, 0, out);
    std::vector<float> found(samples * out.size(), 99.f);
    program.run({given.data()}, {found.data()}, samples, threads);
    return found;
}

}  // namespace

TEST(products_with_matrices) {
    holds([](Random& random, Layout& layout) { return multiplication(random, layout); }, 300);
}

TEST(products_with_wide_matrices) {
    in_every_set([](const std::string& kernels, std::size_t lanes) {
        Random random(18);
        for (const std::size_t columns : {std::size_t{65535}, std::size_t{65536}, std::size_t{65537}}) {
            Layout layout{lanes};
            Multiplication call = multiplication(random, layout, 1);
            call.from = layout.span(random, columns);
            call.dense = false;
            const std::size_t rows = call.to.size;
            call.matrix = Sparse{{0}, {}, {}};
            for (std::size_t row = 0; row < rows; ++row) {
                for (const std::size_t column : {std::size_t{row}, columns / 2 + row, columns - 1}) {
                    call.matrix.columns.push_back(static_cast<std::uint32_t>(column));
                    call.matrix.values.push_back(number(random));
                }
                call.matrix.starts.push_back(static_cast<std::uint32_t>(call.matrix.columns.size()));
            }
            CHECK(right(kernels, call, floats(random, layout)));
        }
    });
}

TEST(a_matrix_of_zeros_leaves_the_bias) {
    in_every_set([](const std::string& kernels, std::size_t lanes) {
        Random random(19);
        Layout layout{lanes};
        Multiplication call = multiplication(random, layout);
        call.matrix = Sparse{std::vector<std::uint32_t>(call.to.size + 1, 0), {}, {}};
        for (const bool dense : {false, true}) {
            call.dense = dense;
            CHECK(right(kernels, call, floats(random, layout)));
        }
    });
}

TEST(along_an_axis) { holds(alongside, 500); }

TEST(along_an_axis_of_infinities_and_nan) {
    const float special[] = {HUGE_VALF, -HUGE_VALF, NAN};
    in_every_set([&](const std::string& kernels, std::size_t lanes) {
        Random random(20);
        for (int repeat = 0; repeat < 300; ++repeat) {
            Layout layout{lanes};
            Alongside call = alongside(random, layout);
            std::vector<float> before = floats(random, layout);
            const unsigned percent = chance(random, 30) ? 100 : 3;
            for (float& each : before) {
                if (chance(random, percent)) each = special[percent == 100 ? 1 : random.below(3)];
            }
            CHECK(right(kernels, call, before));
        }
    });
}

TEST(products_of_values) {
    holds([](Random& random, Layout& layout) { return multiplied(random, layout, false); }, 200);
    in_every_set([](const std::string& kernels, std::size_t lanes) {
        Random random(21);
        for (int repeat = 0; repeat < 100; ++repeat) {
            Layout layout{lanes};
            const Multiplied call = multiplied(random, layout, true);
            CHECK(right(kernels, call, floats(random, layout), true));
        }
    });
}

TEST(rows_of_a_table) {
    in_every_set([](const std::string& kernels, std::size_t lanes) {
        Random random(22);
        for (int repeat = 0; repeat < 100; ++repeat) {
            Layout layout{lanes};
            const bool cells = repeat % 2 != 0;
            const Lookup call = looked_up(random, layout, cells);
            std::vector<float> before = floats(random, layout);
            call.indices(random, before);
            CHECK(right(kernels, call, before, cells));
        }
    });
}

TEST(an_index_without_a_row_is_told) {
    in_every_set([](const std::string& kernels, std::size_t lanes) {
        Random random(23);
        for (const float index : {-1.f, 30.f, 1e30f, -1e30f, HUGE_VALF, NAN}) {
            Layout layout{lanes};
            const Lookup call = looked_up(random, layout, false);
            std::vector<float> before = floats(random, layout);
            call.indices(random, before);
            before[call.from.offset + random.below(call.from.size)] = index;
            bool told = false;
            try {
                carried_out(kernels, call, before, 2);
            } catch (const std::out_of_range&) {
                told = true;
            }
            CHECK(told);
        }
    });
}

TEST(samples_go_into_lanes_and_come_back) {
    in_every_set([](const std::string& kernels, std::size_t lanes) {
        Random random(24);
        for (std::size_t samples = 1; samples <= 3 * lanes + 1; ++samples) {
            const std::size_t one = size(random, 1, 20), vectors = size(random, 1, 30), back = size(random, 1, 30);
            const std::vector<float> given = numbers(random, samples * one);
            std::vector<std::int32_t> in, out;
            for (std::size_t i = 0; i < vectors; ++i)
                in.push_back(static_cast<std::int32_t>(random.below(one + 1)) - 1);
            for (std::size_t i = 0; i < back; ++i) out.push_back(static_cast<std::int32_t>(random.below(vectors)));
            for (const unsigned threads : {1u, 2u, 3u}) {
                const std::vector<float> found = there_and_back(kernels, given, samples, in, out, threads);
                for (std::size_t i = 0; i < found.size(); ++i) {
                    const std::int32_t from = in[static_cast<std::size_t>(out[i % back])];
                    const std::size_t sample = i / back * one;
                    CHECK(found[i] == (from < 0 ? -7.f : given[sample + static_cast<std::size_t>(from)]));
                }
            }
        }
    });
}
