// Calls with some of their numbers changed: refused with std::invalid_argument, or they stay inside their memory, which
// the sanitizers see.
#include <limits>
#include <stdexcept>

#include "engine_arrays.h"

using namespace testing;

namespace {

template <class Number>
Number changed(Number value, Random& random) {
    constexpr std::uint64_t few[] = {0,
                                     1,
                                     ~std::uint64_t{0},
                                     std::uint64_t{1} << 31,
                                     std::uint64_t{1} << 32,
                                     std::uint64_t{1} << 40,
                                     std::uint64_t{1} << 62,
                                     std::uint64_t{1} << 63,
                                     static_cast<std::uint64_t>(std::numeric_limits<Number>::max())};
    const auto wide = static_cast<std::uint64_t>(value);
    switch (random.below(6)) {
        case 0:
            return static_cast<Number>(few[random.below(sizeof few / sizeof few[0])]);
        case 1:
            return static_cast<Number>(random.below(70));
        case 2:
            return static_cast<Number>(wide + 1 + random.below(20));
        case 3:
            return static_cast<Number>(wide - 1 - random.below(20));
        case 4:
            return static_cast<Number>(wide * 2);
        default:
            return static_cast<Number>(wide ^ (std::uint64_t{1} << random.below(8 * sizeof(Number))));
    }
}

template <class Number>
void change_list(std::vector<Number>& list, Random& random) {
    switch (random.below(3)) {
        case 0:
            list.clear();
            break;
        case 1:
            list.push_back(list.empty() ? Number{} : list.front());
            break;
        default:
            if (!list.empty()) list.pop_back();
    }
}

// Changes one number, those of sizes and places as often as those of tables.
template <class Call>
void change(Call& call, Random& random) {
    std::size_t count = 0;
    call.numbers([&](auto&) { ++count; });
    const std::size_t first = std::min<std::size_t>(count, 25);
    std::size_t chosen = random.below(chance(random, 60) ? first : count), i = 0;
    if (chance(random, 85)) {
        call.numbers([&](auto& number) {
            if (i++ == chosen) number = changed(number, random);
        });
        return;
    }
    count = 0;
    call.lists([&](auto&) { ++count; });
    chosen = random.below(count);
    call.lists([&](auto& list) {
        if (i++ == chosen) change_list(list, random);
    });
}

template <class Draw>
void survives(Draw draw, bool samples_in_lanes = false) {
    std::size_t refused = 0, carried = 0;
    in_every_set([&](const std::string& kernels, std::size_t lanes) {
        Random random(31);
        for (int repeat = 0; repeat < 1000; ++repeat) {
            Layout layout{lanes};
            auto call = draw(random, layout);
            const std::vector<float> before = floats(random, layout);
            for (std::size_t i = size(random, 1, 2); i > 0; --i) change(call, random);
            try {
                carried_out(kernels, call, before, 1, samples_in_lanes);
                ++carried;
            } catch (const std::invalid_argument&) {
                ++refused;
            } catch (const std::out_of_range&) {
                ++carried;  // an index without a row
            }
        }
    });
    CHECK(refused > 1000 && carried > 30);
}

template <class Add>
bool refuses(Add add, bool samples_in_lanes = true) {
    Program program("", 1024, {10}, {12}, samples_in_lanes);
    try {
        add(program);
    } catch (const std::invalid_argument&) {
        return program.size() == 0;
    }
    return false;
}

}  // namespace

TEST(changed_convolutions) { survives(convolution); }
TEST(changed_filtering) { survives(filtering); }
TEST(changed_pools) { survives(pool); }
TEST(changed_functions_and_operations) { survives(mapping); }
TEST(changed_sums) { survives(reduction); }
TEST(changed_gathers) { survives(gathering); }
TEST(changed_products_with_matrices) {
    survives([](Random& random, Layout& layout) { return multiplication(random, layout); });
}
TEST(changed_ways_along_an_axis) { survives(alongside); }
TEST(changed_products_of_values) {
    survives([](Random& random, Layout& layout) { return multiplied(random, layout, false); });
    survives([](Random& random, Layout& layout) { return multiplied(random, layout, true); }, true);
}
TEST(changed_lookups) {
    survives([](Random& random, Layout& layout) { return looked_up(random, layout, false); });
    survives([](Random& random, Layout& layout) { return looked_up(random, layout, true); }, true);
}

TEST(lanes_that_do_not_fit) {
    using Table = std::vector<std::int32_t>;
    CHECK(refuses([](Program& p) { p.read_lanes(1, 0, {0}, 0); }));
    CHECK(refuses([](Program& p) { p.read_lanes(-1, 0, {0}, 0); }));
    CHECK(refuses([](Program& p) { p.read_lanes(0, 1, {0}, 0); }));
    CHECK(refuses([](Program& p) { p.read_lanes(0, 0, {10}, 0); }));
    CHECK(refuses([](Program& p) { p.read_lanes(0, 0, {-2}, 0); }));
    CHECK(refuses([](Program& p) { p.read_lanes(0, 1024, {0}, 0); }));
    CHECK(refuses([](Program& p) { p.read_lanes(0, ~std::size_t{0} / 16 * 16, {0}, 0); }));
    CHECK(refuses([](Program& p) { p.read_lanes(0, 0, Table(1025, 0), 0); }));
    CHECK(refuses([](Program& p) { p.write_lanes(0, 1, {0}); }));
    CHECK(refuses([](Program& p) { p.write_lanes(0, 0, {-1}); }));
    CHECK(refuses([](Program& p) { p.write_lanes(1, 0, {0}); }));
    CHECK(refuses([](Program& p) { p.write_lanes(0, 0, {1024}); }));
    CHECK(refuses([](Program& p) { p.write_lanes(0, 0, {2147483647}); }));
    CHECK(refuses([](Program& p) { p.write_lanes(0, 0, Table(13, 0)); }));
    CHECK(refuses([](Program& p) { p.read_lanes(0, 0, {0}, 0); }, false));
    CHECK(refuses([](Program& p) { p.write_lanes(0, 0, {0}); }, false));
    CHECK(refuses([](Program& p) { p.constant(1024, {1.f}); }));
    CHECK(refuses([](Program& p) { p.constant(~std::size_t{0}, {1.f}); }));
    CHECK(!refuses([](Program& p) { p.constant(1023, {1.f}); }));
}

TEST(programs_that_cannot_be) {
    for (const bool large : {false, true}) {
        bool refused = false;
        try {
            Program(large ? "" : "abacus", large ? ~std::size_t{0} : 0, {}, {}, false);
        } catch (const std::invalid_argument&) {
            refused = true;
        }
        CHECK(refused);
    }
    bool refused = false;
    try {
        Program("", 16, {1}, {}, false).run({}, {}, 1, 1);
    } catch (const std::invalid_argument&) {
        refused = true;
    }
    CHECK(refused);
}
