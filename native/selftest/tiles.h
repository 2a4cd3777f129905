// AMX's tiles in software, so that the kernels' own instructions run where the processor has no tiles.
#pragma once

namespace selftest {

// From now on the process carries out tile instructions that the processor refuses; false where that is
// not known how.
bool emulate_tiles();

}  // namespace selftest
