// A team of threads that share out numbered tasks. Which thread runs a task never shows in a result.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace hubel {

class Threads {
 public:
  explicit Threads(int count);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int count() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(0) … task(tasks - 1), each once, and returns when all are done.
  template <class Task>
  void each(int64_t tasks, const Task& task) {
    run(
        tasks, [](const void* given, int64_t index, int) { (*static_cast<const Task*>(given))(index); },
        &task);
  }
  // The same with task(index, worker), for tasks that use the scratch memory of the thread they run on.
  template <class Task>
  void each_worker(int64_t tasks, const Task& task) {
    run(
        tasks,
        [](const void* given, int64_t index, int worker) {
          (*static_cast<const Task*>(given))(index, worker);
        },
        &task);
  }

  // Sees to it that every thread has so many bytes of scratch memory; never while tasks run.
  void reserve(int64_t bytes);
  // Starts on a cache line; holds whatever the last task left.
  void* scratch(int worker) const { return scratch_[worker].get(); }

 private:
  using Function = void (*)(const void*, int64_t, int);
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(void* memory) const { ::operator delete(memory, kLine); }
  };

  void run(int64_t tasks, Function function, const void* argument);
  void serve(int worker);
  void dismiss();
  void share(int worker);

  std::vector<std::thread> workers_;
  std::vector<std::unique_ptr<void, Free>> scratch_;
  int64_t reserved_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> round_{0};  // odd while there is work to share
  std::atomic<int64_t> next_{0};
  std::atomic<int> active_{0};
  std::atomic<int> asleep_{0};
  std::atomic<bool> stop_{false};
  const uint64_t born_;  // how many forks lie before this team
  int64_t tasks_ = 0;
  Function function_ = nullptr;
  const void* argument_ = nullptr;
};

}  // namespace hubel
