// What a program does with maps, on every instruction set, against plain loops in double precision; nothing but what is
// asked for is written.
#include "engine_numbers.h"

using namespace testing;

namespace {

const float SPECIAL[] = {HUGE_VALF, -HUGE_VALF, NAN, 0.f, -0.f};

// Floats of an arena, some of them infinite or no numbers.
std::vector<float> special_floats(Random& random, const Layout& layout) {
    std::vector<float> made = floats(random, layout);
    for (float& each : made) {
        if (chance(random, 10)) each = SPECIAL[random.below(5)];
    }
    return made;
}

template <class Draw>
void holds(Draw draw, int repeats, bool special = false) {
    in_every_set([&](const std::string& kernels, std::size_t lanes) {
        Random random(7);
        for (int repeat = 0; repeat < repeats; ++repeat) {
            Layout layout{lanes};
            const auto call = draw(random, layout);
            CHECK(right(kernels, call, special ? special_floats(random, layout) : floats(random, layout)));
        }
    });
}

}  // namespace

TEST(convolutions_of_all_kinds) { holds(convolution, 400); }

TEST(minimal_filtering_gives_the_same) { holds(filtering, 300); }

TEST(every_tile_there_is) {
    in_every_set([](const std::string& kernels, std::size_t lanes) {
        Random random(8);
        for (std::size_t i = 0; i < 4 * 8 * 4 * 4; ++i) {
            Layout layout{lanes};
            Convolution call = convolution(random, layout);
            // Maps of just the size of a tile, and one more.
            const std::size_t more = random.below(2);
            layout = Layout{lanes};
            const std::size_t side = i / 128 == 3 ? 2 : 1;
            call.pooling = side > 1 ? static_cast<int>(size(random, 1, 2)) : 0;
            call.window = {0, 0, 1, side > 1 ? 1 : i / 128 + 1, 2, 2, 1, 1};
            call.groups = 1;
            call.tiling = {i % 4 + 1, i / 4 % 8 + 1, std::size_t{1} << (i / 32 % 4), 2};
            const std::size_t rows = call.tiling.rows + more, cols = call.tiling.cols + more;
            call.from =
                layout.map(random, 3, rows_below(call.window, rows * side), cols_below(call.window, cols * side));
            call.to = layout.map(random, 9, rows, cols);
            call.has_residual = false;
            call.residual = call.to;
            call.kernel = weights(random, 9, 12);
            call.bias = numbers(random, 9);
            call.halo = halo(random, call.to, lanes);
            CHECK(right(kernels, call, floats(random, layout)));
        }
    });
}

TEST(blocks_of_input_channels_change_nothing_but_the_order) {
    in_every_set([](const std::string& kernels, std::size_t lanes) {
        Random random(9);
        Layout layout{lanes};
        Convolution call = convolution(random, layout);
        const std::vector<float> before = floats(random, layout);
        for (const std::size_t block : {std::size_t{1}, std::size_t{2}, ~std::size_t{0} / 2, ~std::size_t{0}}) {
            call.tiling.block = block;
            CHECK(right(kernels, call, before));
        }
    });
}

TEST(pools_of_all_kinds) { holds(pool, 300); }

TEST(pools_of_infinities_and_nan) { holds(pool, 300, true); }

TEST(functions_and_operations_of_maps) { holds(mapping, 400); }

TEST(operations_of_infinities_and_nan) {
    in_every_set([](const std::string& kernels, std::size_t lanes) {
        Random random(10);
        for (int operation = 0; operation < secateur::engine::OPERATIONS; ++operation) {
            for (int repeat = 0; repeat < 20; ++repeat) {
                Layout layout{lanes};
                Mapping call = mapping(random, layout);
                if (call.with == Mapping::With::nothing) continue;
                call.operation = operation;
                call.activation = Applied{};
                CHECK(right(kernels, call, special_floats(random, layout)));
            }
        }
    });
}

TEST(sums_and_maxima_of_maps) { holds(reduction, 300); }

TEST(sums_and_maxima_of_infinities_and_nan) { holds(reduction, 300, true); }

TEST(gathers) { holds(gathering, 300); }
