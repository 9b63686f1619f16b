// How long each pass over many weights takes: `secateur_bench [millions of weights] [threads] [repeats]`.
// Prints, for each instruction set, milliseconds of every pass: the least and the median of the repeats.
#include "secateur/ranking.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "secateur/kernels.h"

namespace {

constexpr std::size_t TENSOR = std::size_t{1} << 22;

void report(const char* pass, int repeats, const std::function<void()>& run) {
    std::vector<double> times;
    for (int i = 0; i < repeats; ++i) {
        const auto start = std::chrono::steady_clock::now();
        run();
        times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(times.begin(), times.end());
    std::printf("  %-28s %7.1f %7.1f\n", pass, times[0], times[times.size() / 2]);
}

}  // namespace

int main(int argc, char** argv) {
    const std::size_t millions = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 100;
    const auto threads = static_cast<unsigned>(argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1);
    const int repeats = argc > 3 ? std::atoi(argv[3]) : 7;
    const std::size_t tensors = std::max<std::size_t>(1, millions * 1000000 / TENSOR);
    std::vector<std::vector<float>> weights(tensors, std::vector<float>(TENSOR));
    std::vector<std::vector<std::uint8_t>> masks(tensors, std::vector<std::uint8_t>(TENSOR / 8, 0xff));
    std::uint64_t state = 1;
    for (std::vector<float>& tensor : weights) {
        for (float& weight : tensor) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            weight = static_cast<float>(state >> 40) / static_cast<float>(1 << 24) - 0.5f;
        }
    }
    secateur::Ranking ranking;
    ranking.absolute = true;
    ranking.threads = threads;
    std::vector<std::uint8_t*> bits;
    for (std::size_t i = 0; i < tensors; ++i) {
        secateur::View view;
        view.data = weights[i].data();
        view.size = TENSOR;
        ranking.views.push_back(view);
        bits.push_back(masks[i].data());
    }
    const std::uint64_t total = tensors * TENSOR, k = total / 10 * 9;
    std::printf("%zu weights, %u threads, %d repeats: least and median, ms\n", static_cast<std::size_t>(total), threads,
                repeats);
    for (const secateur::Kernels* const* set = secateur::usable_kernels(); *set != nullptr; ++set) {
        secateur::use_kernels((*set)->name);
        std::printf("%s\n", (*set)->name);
        const secateur::Bracket guess = secateur::bracket(ranking, k, total);
        std::vector<std::uint64_t> counts(1 << 16);
        std::size_t bins = 1;
        unsigned shift = 0;
        while ((bins = (guess.high >> shift) - (guess.low >> shift) + 1) > counts.size()) ++shift;
        report("guess from a sample", repeats, [&] { secateur::bracket(ranking, k, total); });
        report("count within the guess", repeats,
               [&] { secateur::count(ranking, guess.low >> shift, shift, bins, counts.data()); });
        report("count the upper 16 bits", repeats,
               [&] { secateur::count(ranking, 0, 16, std::size_t{1} << 15, counts.data()); });
        report("cut", repeats, [&] { secateur::cut(ranking, bits, guess.low, 1, 1); });
        report("cut with ties", repeats, [&] { secateur::cut(ranking, bits, guess.low, 1, 2); });
        // All are kept, so that the next set counts the same weights; the elements are written all the same.
        const std::vector<std::uint8_t> ones(TENSOR / 8, 0xff);
        std::vector<secateur::View> views = ranking.views;
        for (std::size_t i = 0; i < tensors; ++i) views[i].kept = ones.data();
        report("clear", repeats, [&] { secateur::clear(views, threads); });
    }
}
