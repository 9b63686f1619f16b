// Threads that go through a list of steps together.
#pragma once

#include <atomic>
#include <cstddef>

namespace secateur {
namespace engine {

// Where all parts wait for each other: some microseconds apart, so that waiting by turning round is cheaper than sleep.
class Barrier {
public:
    explicit Barrier(std::size_t parts) : parts_(parts) {}
    void wait();

private:
    const std::size_t parts_;
    std::atomic<std::size_t> arrived_{0}, round_{0};
};

// Calls work(context, part, parts) at the same time for every part, on a thread each, the caller among them. parts is
// `threads`, or fewer where the system refuses threads. Calls may come from several threads at once.
void together(unsigned threads, void (*work)(void*, std::size_t, std::size_t, Barrier&), void* context);

}  // namespace engine
}  // namespace secateur
