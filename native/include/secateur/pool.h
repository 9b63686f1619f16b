// A pool of threads shared by all kernels of the process.
#pragma once

#include <cstddef>

namespace secateur {

// Calls run(context, index, worker) once for every index below `tasks` on up to `threads` threads, the caller among
// them, and returns when all calls are done. `worker` is below `threads`, and no two calls at a time share one.
//
// Calls may come from several threads at once and from inside a task; none waits for another's tasks. A child process
// of fork starts with a pool of its own. Where the system refuses more threads, those that are there do the work.
// `run` must not throw.
void parallel_for(std::size_t tasks, unsigned threads, void (*run)(void*, std::size_t, unsigned), void* context);

// The same for anything that can be called as task(index, worker).
template <class Task>
void parallel_for(std::size_t tasks, unsigned threads, Task&& task) {
    parallel_for(
        tasks, threads,
        [](void* context, std::size_t index, unsigned worker) { (*static_cast<Task*>(context))(index, worker); },
        const_cast<void*>(static_cast<const void*>(&task)));
}

}  // namespace secateur
