// One program called by many: the same numbers whoever calls, on however many threads, and in a child of fork.
#include <atomic>
#include <thread>

#include "engine_arrays.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace testing;

namespace {

constexpr std::size_t SIDE = 8, CHANNELS = 16, CLASSES = 10, SAMPLES = 37;

// Two convolutions, a sum over positions and a product with a matrix: one sample a pass, or a sample in each lane.
class Network {
public:
    Network(const std::string& kernels, bool samples_in_lanes)
        : lanes_(lanes_of(kernels)),
          one_(2 * SIDE * SIDE * (samples_in_lanes ? 1 : lanes_)),
          program_(kernels, 50 * SIDE * SIDE * lanes_, {one_}, {CLASSES}, samples_in_lanes) {
        Random random(41);
        Layout layout{lanes_};
        const Map x = layout.map(random, 2, SIDE, SIDE), y = layout.map(random, CHANNELS, SIDE, SIDE),
                  z = layout.map(random, CHANNELS, SIDE, SIDE);
        const Span sums = layout.span(random, CHANNELS * (samples_in_lanes ? lanes_ : 1), true);
        const Span out = layout.span(random, CLASSES * (samples_in_lanes ? lanes_ : 1), true);
        in(x, samples_in_lanes);
        convolve(x, y, random);
        convolve(y, z, random);
        const Sparse matrix = weights(random, CLASSES, CHANNELS);
        std::vector<std::int32_t> all(CLASSES);
        for (std::size_t i = 0; i < CLASSES; ++i) all[i] = static_cast<std::int32_t>(i);
        if (samples_in_lanes) {
            program_.reduce_lanes(z, sums, false, 0.1f);
            const Map from{sums.offset, CHANNELS, lanes_, 1, lanes_, 1}, to{out.offset, CLASSES, lanes_, 1, lanes_, 1};
            program_.convolve(from, to, Window{}, 1, matrix, {}, nullptr, Applied{}, Halo{}, Tiling{});
            program_.write_lanes(out.offset, 0, all);
        } else {
            program_.reduce(z, sums, false, 0.1f, {});
            program_.multiply(sums, out, matrix, {}, nullptr, Applied{}, false);
            program_.gather({-1, out.offset, 0}, {0, 0, 0}, 1, all, 0);
        }
        given_ = numbers(random, SAMPLES * one_);
        expected_ = computed(SAMPLES, 1);
    }

    // Whether the first so many samples come out as they did on one thread.
    bool same(std::size_t samples, unsigned threads) const {
        const std::vector<float> found = computed(samples, threads);
        return std::equal(found.begin(), found.end(), expected_.begin());
    }

private:
    std::vector<float> computed(std::size_t samples, unsigned threads) const {
        std::vector<float> found(samples * CLASSES, 99.f);
        program_.run({given_.data()}, {found.data()}, samples, threads);
        return found;
    }

    void in(const Map& x, bool samples_in_lanes) {
        std::vector<std::int32_t> table(x.channels * x.channel / (samples_in_lanes ? lanes_ : 1));
        for (std::size_t i = 0; i < table.size(); ++i) {
            table[i] = i < one_ ? static_cast<std::int32_t>(i) : -1;
        }
        if (samples_in_lanes) {
            program_.read_lanes(0, x.offset, table, 0);
        } else {
            program_.gather({0, 0, 0}, {-1, x.offset, 0}, 1, table, 0);
        }
    }

    // 3 x 3 with a halo of zeros.
    void convolve(const Map& from, const Map& to, Random& random) {
        Halo halo;
        halo.offset = to.offset;
        halo.permutations.assign(lanes_, -1);
        for (std::size_t i = 0; i < SIDE; ++i) {
            for (const std::size_t edge : {i, (SIDE - 1) * to.row / lanes_ + i}) {
                halo.fills.insert(halo.fills.end(), {static_cast<std::uint32_t>(edge), 0u, 0u});
            }
        }
        Window window;
        window.height = window.width = 3;
        program_.convolve(from, inside(to, 1, 1, SIDE - 2, SIDE - 2, lanes_), window, 1,
                          weights(random, to.channels, from.channels * 9), numbers(random, to.channels), nullptr,
                          activation(random), halo, Tiling{2, 3, 1, 5});
    }

    std::size_t lanes_, one_;
    Program program_;
    std::vector<float> given_, expected_;
};

template <class Check>
void in_both_kinds(Check check) {
    in_every_set([&](const std::string& kernels, std::size_t) {
        check(Network(kernels, false));
        check(Network(kernels, true));
    });
}

}  // namespace

TEST(any_number_of_threads_and_samples_gives_the_same) {
    in_both_kinds([](const Network& network) {
        for (const unsigned threads : {0u, 1u, 2u, 3u, 5u}) {
            for (const std::size_t samples :
                 {std::size_t{0}, std::size_t{1}, std::size_t{4}, std::size_t{17}, SAMPLES}) {
                CHECK(network.same(samples, threads));
            }
        }
        CHECK(network.same(1, 20));  // more than there is to divide
    });
}

TEST(many_callers_of_one_program) {
    in_both_kinds([](const Network& network) {
        std::atomic<int> well{0};
        std::vector<std::thread> callers;
        for (unsigned i = 0; i < 8; ++i) {
            callers.emplace_back([&network, &well, i] {
                for (unsigned repeat = 0; repeat < 12; ++repeat) {
                    well += network.same((5 * repeat + i) % SAMPLES + 1, (i + repeat) % 4) ? 1 : 0;
                }
            });
        }
        for (std::thread& caller : callers) caller.join();
        CHECK(well == 8 * 12);
    });
}

#if !defined(_WIN32)
TEST(a_child_of_fork_computes_too) {
    in_both_kinds([](const Network& network) {
        CHECK(network.same(SAMPLES, 4) && network.same(1, 4));  // so that there are threads which the child will lack
        std::fflush(stdout);
        const pid_t child = fork();
        if (child == 0) _exit(network.same(SAMPLES, 4) && network.same(1, 4) ? 0 : 1);
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        CHECK(network.same(1, 3));
    });
}
#endif
