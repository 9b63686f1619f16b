// The pool: each task once, from several threads at a time, from inside tasks, and in a child of fork.
#include <atomic>
#include <thread>

#include "check.h"
#include "secateur/pool.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

bool each_once(std::size_t tasks, unsigned threads) {
    std::vector<std::atomic<int>> times(tasks), busy(threads);
    std::atomic<bool> well{true};
    secateur::parallel_for(tasks, threads, [&](std::size_t index, unsigned worker) {
        if (worker >= threads || busy[worker].fetch_add(1) != 0) well = false;
        ++times[index];
        --busy[worker];
    });
    for (const std::atomic<int>& count : times) {
        if (count != 1) well = false;
    }
    return well;
}

}  // namespace

TEST(every_task_runs_once_and_workers_are_not_shared) {
    for (const unsigned tasks : {0u, 1u, 2u, 3u, 100u, 1000u}) {
        for (const unsigned threads : {1u, 2u, 3u, 8u}) CHECK(each_once(tasks, threads));
    }
}

TEST(no_threads_means_the_caller) {
    int runs = 0;
    secateur::parallel_for(5, 0, [&](std::size_t, unsigned worker) { runs += worker == 0; });
    CHECK(runs == 5);
}

TEST(callers_do_not_disturb_each_other) {
    std::atomic<int> well{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 6; ++i) {
        callers.emplace_back([&well] {
            for (int repeat = 0; repeat < 50; ++repeat) well += each_once(40, 3) ? 1 : 0;
        });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(well == 300);
}

TEST(a_task_may_have_tasks) {
    std::atomic<int> runs{0};
    secateur::parallel_for(
        6, 3, [&](std::size_t, unsigned) { secateur::parallel_for(7, 3, [&](std::size_t, unsigned) { ++runs; }); });
    CHECK(runs == 42);
}

#if !defined(_WIN32)
TEST(a_child_of_fork_has_its_own_pool) {
    CHECK(each_once(100, 4));  // so that there are threads which the child will lack
    for (int repeat = 0; repeat < 5; ++repeat) {
        std::fflush(stdout);
        const pid_t child = fork();
        if (child == 0) _exit(each_once(100, 4) && each_once(100, 4) ? 0 : 1);
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        CHECK(each_once(100, 4));
    }
}
#endif
