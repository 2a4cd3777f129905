// The compiled module: the only file that knows Python. Memory belongs to NumPy arrays; a program is given
// them anew at each run, checked against the sizes that it was made for, and runs without the GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "cpu.h"
#include "engine.h"

namespace nb = nanobind;
using namespace hubel;

namespace {

using Memory = nb::ndarray<nb::c_contig, nb::device::cpu>;
using Given = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using PlaceTuple = std::tuple<int64_t, int64_t, int64_t>;
using StepTuple = std::tuple<std::string, std::vector<PlaceTuple>, std::vector<int64_t>>;

class Machine {
 public:
  Machine(const std::string& isa, int threads) : table_(kernels_for(isa.c_str())), threads_(clamp(threads)) {
    if (table_ == nullptr) throw std::invalid_argument("this processor has no instruction set " + isa);
  }

  const KernelTable& table() const { return *table_; }
  std::string isa() const { return table_->isa; }
  double pair_rate() const {
    for (int i = 0; i < kIsaCount; ++i)
      if (kIsas[i].table() == table_) return kIsas[i].pair_rate();
    return 0.0;
  }
  int count() const { return threads_.count(); }

  // The engine's own memories come first, then what the caller brings, which is only read. The caller sees to
  // it that no two runs of a team overlap; a single thread is no team.
  void run(const Program& program, const std::vector<Memory>& own, const std::vector<Given>& given) {
    const std::vector<void*> addresses = addresses_of(program, own, given);
    nb::gil_scoped_release release;
    program.run(addresses, threads_);
  }

  // Runs it in the same way, and gives the seconds that each step took.
  std::vector<double> time(const Program& program, const std::vector<Memory>& own,
                           const std::vector<Given>& given) {
    const std::vector<void*> addresses = addresses_of(program, own, given);
    std::vector<double> seconds(static_cast<size_t>(program.steps()));
    nb::gil_scoped_release release;
    program.run(addresses, threads_, seconds.data());
    return seconds;
  }

  // Does multiply-adds on registers alone, in `tasks` shared out among the threads, and gives the number of
  // floating-point operations.
  int64_t multiply_adds(int64_t tasks, int64_t rounds) {
    if (tasks < 1 || rounds < 1) throw std::invalid_argument("there must be a task, and a round in it");
    nb::gil_scoped_release release;
    std::atomic<int64_t> operations{0};
    threads_.each(tasks, [&](int64_t) {
      volatile float half = 0.5f;  // not known when this is compiled
      float number = half;
      operations += table_->multiply_adds(rounds, &number);
      half = number;
    });
    return operations;
  }

 private:
  static std::vector<void*> addresses_of(const Program& program, const std::vector<Memory>& own,
                                         const std::vector<Given>& given) {
    std::vector<void*> addresses;
    const auto add = [&](const void* address, size_t size, size_t number) {
      const size_t index = addresses.size();
      if (index >= program.memories().size() || static_cast<int64_t>(size) < program.memories()[index])
        throw std::invalid_argument("memory " + std::to_string(index) + " is too small, or one too many");
      if (reinterpret_cast<uintptr_t>(address) % number != 0)
        throw std::invalid_argument("memory " + std::to_string(index) + " is not aligned");
      addresses.push_back(const_cast<void*>(address));
    };
    addresses.reserve(own.size() + given.size());
    for (const Memory& memory : own) add(memory.data(), memory.nbytes(), 8);
    for (const Given& memory : given) add(memory.data(), memory.nbytes(), memory.itemsize());
    if (addresses.size() != program.memories().size()) throw std::invalid_argument("a memory is missing");
    return addresses;
  }

  static int clamp(int threads) {
    if (threads < 0 || threads > 1024) throw std::invalid_argument("threads must be between 1 and 1024");
    return threads > 0 ? threads : usable_cores();
  }

  const KernelTable* table_;
  Threads threads_;
};

std::vector<Step> steps_of(const std::vector<StepTuple>& given) {
  std::vector<Step> steps;
  for (const auto& [kernel, operands, parameters] : given) {
    Step step{kernel, {}, parameters};
    for (const auto& [memory, offset, bytes] : operands) step.operands.push_back({memory, offset, bytes});
    steps.push_back(step);
  }
  return steps;
}

std::vector<std::tuple<std::string, bool>> instruction_sets() {
  std::vector<std::tuple<std::string, bool>> found;
  for (int i = 0; i < kIsaCount; ++i) found.emplace_back(kIsas[i].name, kIsas[i].available());
  return found;
}

std::vector<std::tuple<std::string, int64_t, int64_t>> kernels() {
  std::vector<std::tuple<std::string, int64_t, int64_t>> found;
  for (int i = kIsaCount - 1; i >= 0; --i) {
    const KernelTable* table = kIsas[i].table();
    for (int64_t k = 0; k < table->count; ++k) {
      const Kernel& kernel = table->kernels[k];
      const std::tuple<std::string, int64_t, int64_t> row{kernel.name, kernel.operands, kernel.parameters};
      if (std::find(found.begin(), found.end(), row) == found.end()) found.push_back(row);
    }
  }
  return found;
}

}  // namespace

NB_MODULE(_native, m) {
  // A forked child never unwinds what the other threads of its parent were doing, and holds it to its end.
  nb::set_leak_warnings(false);
  nb::class_<Program>(m, "Program")
      .def("__init__", [](Program* self, const Machine& machine, const std::vector<StepTuple>& steps,
                          const std::vector<int64_t>& memories) {
        new (self) Program(machine.table(), steps_of(steps), memories);
      });
  nb::class_<Machine>(m, "Machine")
      .def(nb::init<const std::string&, int>(), nb::arg("isa"), nb::arg("threads"))
      .def_prop_ro("isa", &Machine::isa)
      .def_prop_ro("pair_rate", &Machine::pair_rate)
      .def_prop_ro("threads", &Machine::count)
      .def("run", &Machine::run)
      .def("time", &Machine::time)
      .def("multiply_adds", &Machine::multiply_adds, nb::arg("tasks"), nb::arg("rounds"));
  m.def("instruction_sets", &instruction_sets);
  m.def("kernels", &kernels);
}
