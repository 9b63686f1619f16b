#include "secateur/ranking.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>

#include "elements.h"
#include "secateur/pool.h"

#if defined(_MSC_VER) && !defined(__clang__)
#define SECATEUR_PREFETCH(address) static_cast<void>(address)
#else
#define SECATEUR_PREFETCH(address) __builtin_prefetch(address, 0, 2)
#endif

namespace secateur {
namespace {

constexpr std::size_t CHUNK = std::size_t{1} << 16;  // elements of one task; a multiple of BLOCK
constexpr std::size_t RUN = 16;                      // neighbours that are sampled together
constexpr std::size_t SAMPLE = std::size_t{1} << 19;
constexpr std::size_t SMALL_SAMPLE = std::size_t{1} << 14;

struct Chunk {
    std::size_t view, start, end;
};

std::vector<Chunk> chunks_of(const std::vector<View>& views) {
    std::vector<Chunk> chunks;
    for (std::size_t v = 0; v < views.size(); ++v) {
        for (std::size_t start = 0; start < views[v].size; start += CHUNK) {
            chunks.push_back({v, start, std::min(start + CHUNK, views[v].size)});
        }
    }
    return chunks;
}

void lower(std::atomic<std::size_t>& smallest, std::size_t value) {
    std::size_t known = smallest.load();
    while (value < known && !smallest.compare_exchange_weak(known, value)) {
    }
}

// Asks for the block that is read next, so that the loops on this one's keys hide the wait for it.
void prefetch(const View& view, std::size_t start) {
    const std::size_t width = bytes_of(view.dtype), bytes = std::min(BLOCK, view.size - start) * width;
    const char* next = static_cast<const char*>(view.data) + start * width;
    for (std::size_t i = 0; i < bytes; i += 64) SECATEUR_PREFETCH(next + i);
}

// Calls use(keys, start, n) for each block of a chunk; returns whether a NaN was met.
template <class Key, class Use>
bool each_block(const Ranking& ranking, const Chunk& chunk, Use use) {
    Scratch scratch;
    bool nan = false;
    const View& view = ranking.views[chunk.view];
    for (std::size_t start = chunk.start; start < chunk.end; start += BLOCK) {
        const std::size_t n = std::min(BLOCK, chunk.end - start);
        const Key* keys = load<Key>(view, start, n, ranking.absolute, scratch, nan);
        if (view.axes == 0) prefetch(view, start + n);
        use(const_cast<Key*>(keys), start, n);
    }
    return nan;
}

template <class Key>
Counted count_keys(const Ranking& ranking, std::uint64_t first, unsigned shift, std::size_t bins,
                   std::uint64_t* counts) {
    const std::vector<Chunk> chunks = chunks_of(ranking.views);
    const auto threads =
        static_cast<unsigned>(std::max<std::size_t>(1, std::min<std::size_t>(ranking.threads, chunks.size())));
    std::vector<std::vector<std::uint64_t>> own(threads);
    std::vector<std::uint64_t> below(threads * 8);  // a cache line each
    std::atomic<std::size_t> nan{NO_NAN};
    for (std::vector<std::uint64_t>& histogram : own) histogram.resize(bins);
    parallel_for(chunks.size(), threads, [&](std::size_t index, unsigned worker) {
        const Chunk& chunk = chunks[index];
        const std::uint8_t* kept = ranking.views[chunk.view].kept;
        const KeyKernels<Key>& use = kernels().of<Key>();
        const bool met = each_block<Key>(ranking, chunk, [&](Key* keys, std::size_t start, std::size_t n) {
            if (kept != nullptr) use.leave_out(kept + start / 8, n, keys);
            below[worker * 8] +=
                use.count(keys, n, static_cast<Key>(first), shift, static_cast<Key>(bins - 1), own[worker].data());
        });
        if (met) lower(nan, chunk.view);
    });
    Counted counted{0, nan.load()};
    for (unsigned worker = 0; worker < threads; ++worker) {
        counted.below += below[worker * 8];
        for (std::size_t bin = 0; bin < bins; ++bin) counts[bin] += own[worker][bin];
    }
    return counted;
}

// Spread over all elements in runs of neighbours, always the same ones.
template <class Key>
std::vector<Key> sampled(const Ranking& ranking) {
    std::size_t total = 0, runs = 0;
    for (const View& view : ranking.views) {
        total += view.size;
        runs += (view.size + RUN - 1) / RUN;
    }
    const std::size_t wanted = total <= SMALL_SAMPLE ? runs : std::min(SAMPLE, SMALL_SAMPLE + total / 64) / RUN;
    const auto scratch = std::make_unique<Scratch>();
    std::vector<Key> found;
    found.reserve(wanted * RUN);
    std::size_t v = 0, before = 0;  // the runs of the views before v
    std::uint64_t jitter = 0x9e3779b97f4a7c15u;
    for (std::size_t j = 0; j < wanted; ++j) {
        const std::size_t low = j * runs / wanted, high = (j + 1) * runs / wanted;
        jitter = jitter * 6364136223846793005u + 1442695040888963407u;
        const std::size_t run = low + static_cast<std::size_t>(jitter >> 33) % std::max<std::size_t>(1, high - low);
        while (run - before >= (ranking.views[v].size + RUN - 1) / RUN)
            before += (ranking.views[v++].size + RUN - 1) / RUN;
        const View& view = ranking.views[v];
        const std::size_t start = (run - before) * RUN, n = std::min(RUN, view.size - start);
        bool nan = false;
        auto* keys = const_cast<Key*>(load<Key>(view, start, n, ranking.absolute, *scratch, nan));
        if (view.kept != nullptr) kernels().of<Key>().leave_out(view.kept + start / 8, n, keys);
        std::copy_if(keys, keys + n, std::back_inserter(found),
                     [](Key key) { return key != static_cast<Key>(~Key{0}); });
    }
    return found;
}

template <class Key>
Bracket bracket_keys(const Ranking& ranking, std::uint64_t k, std::uint64_t part) {
    std::vector<Key> found = sampled<Key>(ranking);
    if (found.empty() || part == 0) return {0, static_cast<Key>(~Key{0})};
    const auto size = static_cast<double>(found.size());
    const double share = static_cast<double>(k) / static_cast<double>(part);
    // Three standard deviations either way; none where the sample is everything.
    const double slack = found.size() == part ? 0.0 : 3.0 * std::sqrt(share * (1 - share) * size) + 2.0;
    const double from = std::round(share * size - 1.0 - slack), to = std::round(share * size - 1.0 + slack);
    const auto low = found.begin() + static_cast<std::ptrdiff_t>(std::clamp(from, 0.0, size - 1.0));
    const auto high = found.begin() + static_cast<std::ptrdiff_t>(std::clamp(to, 0.0, size - 1.0));
    std::nth_element(found.begin(), low, found.end());
    const Key lowest = *low;
    std::nth_element(low, high, found.end());
    // Beyond the ends of the sample anything may be.
    return {from < 0 ? Key{0} : lowest, to > size - 1.0 ? static_cast<Key>(~Key{0}) : *high};
}

// Clears the bits of the first `ties` of a chunk's keys that equal `threshold`; of all of them if `all`.
template <class Key>
void drop_ties(const Ranking& ranking, const Chunk& chunk, std::uint8_t* mask, Key threshold, bool all,
               std::uint64_t ties) {
    each_block<Key>(ranking, chunk, [&](const Key* keys, std::size_t start, std::size_t n) {
        if (all) {
            kernels().of<Key>().cut(keys, n, static_cast<Key>(threshold + 1), mask + start / 8);
            return;
        }
        for (std::size_t i = 0; i < n && ties > 0; ++i) {
            std::uint8_t& byte = mask[(start + i) / 8];
            const auto bit = static_cast<std::uint8_t>(0x80u >> ((start + i) % 8));
            if (keys[i] != threshold || (byte & bit) == 0) continue;
            byte = static_cast<std::uint8_t>(byte & ~bit);
            --ties;
        }
    });
}

// How many of each chunk's ties are among the first `ties` of all.
std::vector<std::uint64_t> shares_of(const std::vector<std::uint64_t>& own, std::uint64_t ties) {
    std::vector<std::uint64_t> shares;
    shares.reserve(own.size());
    for (const std::uint64_t here : own) {
        shares.push_back(std::min(here, ties));
        ties -= shares.back();
    }
    return shares;
}

template <class Key>
std::vector<std::uint64_t> cut_keys(const Ranking& ranking, const std::vector<std::uint8_t*>& masks, Key threshold,
                                    std::uint64_t ties, std::uint64_t tied) {
    const std::vector<Chunk> chunks = chunks_of(ranking.views);
    const bool some = ties > 0 && ties < tied;  // else all of the tied go or stay, wherever they are
    const Key least = ties > 0 && !some ? static_cast<Key>(threshold + 1) : threshold;
    std::vector<std::uint64_t> left(chunks.size()), own_ties(some ? chunks.size() : 0);
    parallel_for(chunks.size(), ranking.threads, [&](std::size_t index, unsigned) {
        const Chunk& chunk = chunks[index];
        const KeyKernels<Key>& use = kernels().of<Key>();
        each_block<Key>(ranking, chunk, [&](const Key* keys, std::size_t start, std::size_t n) {
            std::uint8_t* mask = masks[chunk.view] + start / 8;
            left[index] += use.cut(keys, n, least, mask);
            if (some) own_ties[index] += use.equal(keys, n, threshold, mask);
        });
    });
    if (some) {
        parallel_for(chunks.size(), ranking.threads,
                     [&, share = shares_of(own_ties, ties)](std::size_t index, unsigned) {
                         if (share[index] == 0) return;
                         drop_ties<Key>(ranking, chunks[index], masks[chunks[index].view], threshold,
                                        share[index] == own_ties[index], share[index]);
                         left[index] -= share[index];
                     });
    }
    std::vector<std::uint64_t> kept(ranking.views.size());
    for (std::size_t index = 0; index < chunks.size(); ++index) kept[chunks[index].view] += left[index];
    return kept;
}

}  // namespace

Counted count(const Ranking& ranking, std::uint64_t first, unsigned shift, std::size_t bins, std::uint64_t* counts) {
    if (ranking.bits == 16) return count_keys<std::uint16_t>(ranking, first, shift, bins, counts);
    if (ranking.bits == 32) return count_keys<std::uint32_t>(ranking, first, shift, bins, counts);
    return count_keys<std::uint64_t>(ranking, first, shift, bins, counts);
}

Bracket bracket(const Ranking& ranking, std::uint64_t k, std::uint64_t part) {
    if (ranking.bits == 16) return bracket_keys<std::uint16_t>(ranking, k, part);
    if (ranking.bits == 32) return bracket_keys<std::uint32_t>(ranking, k, part);
    return bracket_keys<std::uint64_t>(ranking, k, part);
}

std::vector<std::uint64_t> cut(const Ranking& ranking, const std::vector<std::uint8_t*>& masks, std::uint64_t threshold,
                               std::uint64_t ties, std::uint64_t tied) {
    if (ranking.bits == 16) return cut_keys(ranking, masks, static_cast<std::uint16_t>(threshold), ties, tied);
    if (ranking.bits == 32) return cut_keys(ranking, masks, static_cast<std::uint32_t>(threshold), ties, tied);
    return cut_keys(ranking, masks, threshold, ties, tied);
}

void clear(const std::vector<View>& views, unsigned threads) {
    const std::vector<Chunk> chunks = chunks_of(views);
    parallel_for(chunks.size(), threads, [&](std::size_t index, unsigned) {
        const Chunk& chunk = chunks[index];
        const View& view = views[chunk.view];
        for (std::size_t start = chunk.start; start < chunk.end; start += BLOCK) {
            clear_block(view, start, std::min(BLOCK, chunk.end - start), view.kept + start / 8);
        }
    });
}

}  // namespace secateur
