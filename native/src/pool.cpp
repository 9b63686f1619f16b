#include "secateur/pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace secateur {
namespace {

struct Job {
    void (*run)(void*, std::size_t, unsigned);
    void* context;
    std::size_t tasks;
    std::atomic<std::size_t> next{0};
    unsigned helpers = 0;  // that have taken part; guarded by the pool, as is the next
    unsigned running = 0;  // of them, that still work

    void work(unsigned worker) {
        for (std::size_t index; (index = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
            run(context, index, worker);
        }
    }
};

class Pool {
public:
    // The caller works too, and takes back the tickets that no helper has come for.
    void run(Job& job, unsigned helpers) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            grow(helpers);
            tickets_.insert(tickets_.end(), helpers, &job);
        }
        wake_.notify_all();
        job.work(0);
        std::unique_lock<std::mutex> lock(mutex_);
        tickets_.erase(std::remove(tickets_.begin(), tickets_.end(), &job), tickets_.end());
        done_.wait(lock, [&job] { return job.running == 0; });
    }

private:
    void grow(unsigned wanted) {
        try {
            for (; threads_ < wanted; ++threads_) std::thread([this] { help(); }).detach();
        } catch (const std::system_error&) {
            // No more threads to be had: those that are there, and the caller, do it all.
        }
    }

    void help() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [this] { return !tickets_.empty(); });
            Job& job = *tickets_.front();
            tickets_.pop_front();
            const unsigned worker = ++job.helpers;
            ++job.running;
            lock.unlock();
            job.work(worker);
            lock.lock();
            if (--job.running == 0) done_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::deque<Job*> tickets_;
    unsigned threads_ = 0;
};

std::atomic<Pool*> current{nullptr};

// Pools are never destroyed: their threads may still wait when the process ends, and in a child of fork they are gone.
Pool& pool() {
    Pool* known = current.load(std::memory_order_acquire);
    if (known == nullptr) {
#if !defined(_WIN32)
        static const int watched = pthread_atfork(nullptr, nullptr, [] { current.store(nullptr); });
        static_cast<void>(watched);
#endif
        Pool* made = new Pool;
        if (current.compare_exchange_strong(known, made)) return *made;
        delete made;
    }
    return *known;
}

}  // namespace

void parallel_for(std::size_t tasks, unsigned threads, void (*run)(void*, std::size_t, unsigned), void* context) {
    const auto useful = static_cast<unsigned>(std::min<std::size_t>(std::max(threads, 1u), tasks));
    Job job{run, context, tasks};
    if (useful <= 1) {
        job.work(0);
    } else {
        pool().run(job, useful - 1);
    }
}

}  // namespace secateur
