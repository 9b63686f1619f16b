#include "team.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#endif

namespace secateur {
namespace engine {
namespace {

void pause() {
#if defined(__SSE2__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__ __volatile__("yield");
#endif
}

// Turns round until ready() or for that long; then lets others go first between looks. Returns ready().
template <class Ready>
bool spin(Ready ready, std::chrono::microseconds patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    do {
        for (int i = 0; i < 64; ++i) {
            if (ready()) return true;
            pause();
        }
    } while (std::chrono::steady_clock::now() < until);
    return ready();
}

constexpr std::chrono::microseconds PATIENCE{100};

struct Call {
    void (*work)(void*, std::size_t, std::size_t, Barrier&);
    void* context;
    std::size_t parts;
    Barrier barrier;
    std::atomic<std::size_t> running;
};

class Helper {
public:
    void give(Call& call, std::size_t part) {
        part_ = part;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            call_.store(&call, std::memory_order_release);
        }
        wake_.notify_one();
    }

    // Helps one call after the other; home(this) says that it is free again.
    template <class Home>
    void live(Home home) {
        for (;;) {
            if (!spin([this] { return call_.load(std::memory_order_acquire) != nullptr; }, PATIENCE)) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [this] { return call_.load(std::memory_order_acquire) != nullptr; });
            }
            Call& call = *call_.load(std::memory_order_acquire);
            call.work(call.context, part_, call.parts, call.barrier);
            call_.store(nullptr, std::memory_order_relaxed);
            home(this);
            call.running.fetch_sub(1, std::memory_order_release);  // the last look at the call
        }
    }

private:
    std::atomic<Call*> call_{nullptr};
    std::size_t part_ = 0;
    std::mutex mutex_;
    std::condition_variable wake_;
};

class Helpers {
public:
    std::vector<Helper*> take(std::size_t wanted) {
        std::vector<Helper*> taken;
        const std::lock_guard<std::mutex> lock(mutex_);
        while (taken.size() < wanted) {
            if (free_.empty() && !add()) break;
            taken.push_back(free_.back());
            free_.pop_back();
        }
        return taken;
    }

private:
    bool add() {
        Helper* const made = new Helper;
        try {
            free_.push_back(made);
            std::thread([this, made] { made->live([this](Helper* helper) { give_back(helper); }); }).detach();
        } catch (const std::system_error&) {
            free_.pop_back();
            delete made;
            return false;
        }
        return true;
    }

    void give_back(Helper* helper) {
        const std::lock_guard<std::mutex> lock(mutex_);
        free_.push_back(helper);
    }

    std::mutex mutex_;
    std::vector<Helper*> free_;
};

std::atomic<Helpers*> current{nullptr};

// Never destroyed: helpers may still wait when the process ends. In a child of fork they are gone, and others are made.
Helpers& helpers() {
    Helpers* known = current.load(std::memory_order_acquire);
    if (known == nullptr) {
#if !defined(_WIN32)
        static const int watched = pthread_atfork(nullptr, nullptr, [] { current.store(nullptr); });
        static_cast<void>(watched);
#endif
        Helpers* made = new Helpers;
        if (current.compare_exchange_strong(known, made)) return *made;
        delete made;
    }
    return *known;
}

}  // namespace

void Barrier::wait() {
    if (parts_ == 1) return;
    const std::size_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == parts_) {
        arrived_.store(0, std::memory_order_relaxed);
        round_.store(round + 1, std::memory_order_release);
        return;
    }
    const auto over = [this, round] { return round_.load(std::memory_order_acquire) != round; };
    while (!spin(over, PATIENCE)) std::this_thread::yield();
}

void together(unsigned threads, void (*work)(void*, std::size_t, std::size_t, Barrier&), void* context) {
    std::vector<Helper*> taken;
    if (threads > 1) taken = helpers().take(threads - 1);
    const std::size_t parts = taken.size() + 1;
    Call call{work, context, parts, Barrier(parts), {parts - 1}};
    for (std::size_t i = 0; i < taken.size(); ++i) taken[i]->give(call, i + 1);
    work(context, 0, parts, call.barrier);
    const auto over = [&call] { return call.running.load(std::memory_order_acquire) == 0; };
    while (!spin(over, PATIENCE)) std::this_thread::yield();
}

}  // namespace engine
}  // namespace secateur
