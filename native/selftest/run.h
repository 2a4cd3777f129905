// Runs cases on an instruction set: canaries around every operand, one to three threads, same bits.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "../call.h"
#include "../threads.h"
#include "case.h"

namespace selftest {

// Runs the case with one thread and with each team; the first thing that is wrong, or "".
std::string run(const hubel::KernelTable& table, const Case& test, const std::vector<hubel::Threads*>& teams);

}  // namespace selftest
