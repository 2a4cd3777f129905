#include "threads.h"

#include "denormals.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
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

// A forked process has a copy of the team's memory, but none of its threads: it must neither wait for them
// nor join them.
std::atomic<uint64_t> forks{0};

uint64_t forks_so_far() {
#if defined(__unix__) || defined(__APPLE__)
  static const int watched = pthread_atfork(nullptr, nullptr, [] { ++forks; });
  (void)watched;
#endif
  return forks;
}

}  // namespace

Threads::Threads(int count) : born_(forks_so_far()) {
  try {
    for (int i = 1; i < count; ++i) workers_.emplace_back([this, i] { serve(i); });
  } catch (...) {  // the system has no more threads to give
    dismiss();
    throw;
  }
}

Threads::~Threads() { dismiss(); }

void Threads::dismiss() {
  if (forks_so_far() != born_) {  // left to the process that they belong to
    new std::vector<std::thread>(std::move(workers_));
    return;
  }
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void Threads::reserve(int64_t bytes) {
  if (bytes <= reserved_) return;
  reserved_ = 0;  // should there not be so much
  scratch_.clear();
  for (int i = 0; i < count(); ++i) scratch_.emplace_back(::operator new(static_cast<size_t>(bytes), kLine));
  reserved_ = bytes;
}

void Threads::share(int worker) {
  for (int64_t i = next_.fetch_add(1); i < tasks_; i = next_.fetch_add(1)) function_(argument_, i, worker);
}

// A worker that comes too late is not waited for: on a busy machine it may be long in coming. It counts
// itself active before it looks whether the round is open, and the round is closed before the active are
// counted, so either it is seen or it sees.
void Threads::run(int64_t tasks, Function function, const void* argument) {
  if (workers_.empty() || tasks <= 1 || forks != born_) {
    for (int64_t i = 0; i < tasks; ++i) function(argument, i, 0);
    return;
  }
  tasks_ = tasks;
  function_ = function;
  argument_ = argument;
  next_ = 0;
  ++round_;
  if (asleep_ > 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  share(0);
  ++round_;
  // Whoever holds the last task may have lost its core to somebody else, who may be waiting for this one.
  for (int spin = 0; active_ > 0; ++spin) spin < kSpins ? pause() : std::this_thread::yield();
}

void Threads::serve(int worker) {
  const FlushDenormals flush;
  uint64_t seen = 0;
  const auto idle = [&] { return !stop_ && (round_ == seen || round_ % 2 == 0); };
  while (!stop_) {
    for (int spin = 0; spin < kSpins && idle(); ++spin) pause();
    if (idle()) {
      std::unique_lock lock(mutex_);
      ++asleep_;
      wake_.wait(lock, [&] { return !idle(); });
      --asleep_;
    }
    ++active_;
    const uint64_t round = round_;
    if (round % 2 == 1 && !stop_) {
      seen = round;
      share(worker);
    }
    --active_;
  }
}

}  // namespace hubel
