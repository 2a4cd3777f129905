#include "threads.h"

#include <chrono>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace hubel {

namespace {

// Steps follow one another within microseconds: looking for work for about as long as waking from
// sleep would take costs nothing, and more would steal the core from others.
constexpr int kSpins = 4000;

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Threads::Threads(int count) {
  for (int i = 1; i < count; ++i) workers_.emplace_back([this] { serve(); });
}

Threads::~Threads() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void Threads::share() {
  for (int64_t i = next_.fetch_add(1); i < tasks_; i = next_.fetch_add(1)) function_(argument_, i);
}

void Threads::run(int64_t tasks, Function function, const void* argument) {
  if (workers_.empty() || tasks <= 1) {
    for (int64_t i = 0; i < tasks; ++i) function(argument, i);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    tasks_ = tasks;
    function_ = function;
    argument_ = argument;
    next_ = 0;
    busy_ = static_cast<int>(workers_.size());
    ++round_;
  }
  wake_.notify_all();
  share();
  while (busy_.load(std::memory_order_acquire) > 0) pause();
}

void Threads::serve() {
  uint64_t seen = 0;
  for (;;) {
    for (int spin = 0; spin < kSpins && round_.load(std::memory_order_acquire) == seen && !stop_; ++spin)
      pause();
    if (round_.load(std::memory_order_acquire) == seen) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || round_ != seen; });
    }
    if (stop_) return;
    seen = round_.load(std::memory_order_acquire);
    share();
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace hubel
