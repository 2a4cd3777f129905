// An instruction that a processor does not know ends in SIGILL, with the thread's registers at hand: those of
// AMX are decoded and carried out here, by Intel's "Architecture Instruction Set Extensions Programming
// Reference", chapter 3. What they would fault at ends the program.
#include "tiles.h"

#if defined(__x86_64__) && defined(__linux__)

#include <signal.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../cpu.h"

namespace selftest {

namespace {

constexpr int kTiles = 8, kRows = 16, kBytes = 64;

struct Tile {
  int rows = 0, bytes = 0;
  uint8_t content[kRows][kBytes] = {};
};

struct Unit {
  bool configured = false;
  Tile tiles[kTiles];
};

thread_local Unit unit;

[[noreturn]] void fault(const char* why) {
  std::fprintf(stderr, "tiles: %s\n", why);
  std::abort();
}

void check(bool holds, const char* why) {
  if (!holds) fault(why);
}

int64_t register_of(const gregset_t& registers, int number) {
  constexpr int kOrder[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return registers[kOrder[number]];
}

// A VEX-coded instruction of three bytes of prefix, an opcode, and operands.
struct Instruction {
  const uint8_t* at;
  int prefix, opcode, mode, reg, rm, other;
  int64_t address = 0, step = 0;  // of an operand in memory
  int64_t length = 0;

  Instruction(const uint8_t* code, const gregset_t& registers) : at(code) {
    check(code[0] == 0xc4 && (code[1] & 0x1f) == 2, "not an instruction of tiles");
    prefix = code[2] & 3;
    other = ~code[2] >> 3 & 15;
    opcode = code[3];
    mode = code[4] >> 6;
    reg = (code[4] >> 3 & 7) + (code[1] & 0x80 ? 0 : 8);
    rm = (code[4] & 7) + (code[1] & 0x20 ? 0 : 8);
    length = 5;
    if (mode == 3) return;
    const bool scaled = (code[4] & 7) == 4;
    if (scaled) {
      const uint8_t sib = code[length++];
      const int index = (sib >> 3 & 7) + (code[1] & 0x40 ? 0 : 8);
      rm = (sib & 7) + (code[1] & 0x20 ? 0 : 8);
      if (index != 4) step = register_of(registers, index) << (sib >> 6);
    }
    check(mode != 0 || (rm & 7) != 5, "an address without a register");
    address = register_of(registers, rm);
    if (mode == 1) address += static_cast<int8_t>(code[length++]);
    if (mode == 2) {
      int32_t far;
      std::memcpy(&far, code + length, sizeof(far));
      address += far;
      length += 4;
    }
  }
};

void configure(const uint8_t* from) {
  check(from[0] == 1 && from[1] == 0, "only palette 1 from row 0 is known");
  for (int i = 2; i < 16; ++i) check(from[i] == 0, "reserved bytes");
  for (int i = 0; i < 16; ++i) {
    uint16_t bytes;
    std::memcpy(&bytes, from + 16 + 2 * i, sizeof(bytes));
    const int rows = from[48 + i];
    if (i >= kTiles) {
      check(bytes == 0 && rows == 0, "more than eight tiles");
      continue;
    }
    check(bytes <= kBytes && rows <= kRows && (bytes == 0) == (rows == 0), "a tile of no such size");
    unit.tiles[i] = Tile{};
    unit.tiles[i].rows = rows;
    unit.tiles[i].bytes = bytes;
  }
  unit.configured = true;
}

Tile& tile(int number) {
  check(unit.configured, "not configured");
  check(number < kTiles && unit.tiles[number].rows > 0, "a tile that is not configured");
  return unit.tiles[number];
}

void read(Tile& to, const uint8_t* from, int64_t step) {
  std::memset(to.content, 0, sizeof(to.content));
  for (int row = 0; row < to.rows; ++row)
    std::memcpy(to.content[row], from + row * step, static_cast<size_t>(to.bytes));
}

void write(const Tile& from, uint8_t* to, int64_t step) {
  for (int row = 0; row < from.rows; ++row)
    std::memcpy(to + row * step, from.content[row], static_cast<size_t>(from.bytes));
}

float number(const Tile& tile, int row, int column) {
  uint16_t half;
  std::memcpy(&half, tile.content[row] + 2 * column, sizeof(half));
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float made;
  std::memcpy(&made, &bits, sizeof(made));
  return made;
}

void add_products(Tile& c, const Tile& a, const Tile& b) {
  check(&c != &a && &a != &b && &c != &b, "tiles must differ");
  check(c.rows == a.rows && c.bytes == b.bytes && a.bytes == 4 * b.rows, "tiles that do not fit");
  check(a.bytes % 4 == 0 && b.bytes % 4 == 0, "tiles of half pairs");
  for (int m = 0; m < c.rows; ++m)
    for (int n = 0; n < c.bytes / 4; ++n) {
      float even = 0.0f, odd = 0.0f, sum;
      for (int k = 0; k < a.bytes / 4; ++k) {
        even += number(a, m, 2 * k) * number(b, k, 2 * n);
        odd += number(a, m, 2 * k + 1) * number(b, k, 2 * n + 1);
      }
      std::memcpy(&sum, c.content[m] + 4 * n, sizeof(sum));
      sum += even + odd;
      std::memcpy(c.content[m] + 4 * n, &sum, sizeof(sum));
    }
}

constexpr int kNone = 0, k66 = 1, kF3 = 2, kF2 = 3;

void carry_out(int, siginfo_t*, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const Instruction given(reinterpret_cast<const uint8_t*>(registers[REG_RIP]), registers);
  auto* memory = reinterpret_cast<uint8_t*>(given.address);
  if (given.opcode == 0x49 && given.prefix == kNone && given.mode != 3)
    configure(memory);
  else if (given.opcode == 0x49 && given.prefix == kNone && given.reg == 0 && given.rm == 0)
    unit = Unit{};
  else if (given.opcode == 0x49 && given.prefix == kF2 && given.mode == 3)
    std::memset(tile(given.reg).content, 0, sizeof(Tile::content));
  else if (given.opcode == 0x4b && (given.prefix == kF2 || given.prefix == k66))
    read(tile(given.reg), memory, given.step);
  else if (given.opcode == 0x4b && given.prefix == kF3)
    write(tile(given.reg), memory, given.step);
  else if (given.opcode == 0x5c && given.prefix == kF3 && given.mode == 3)
    add_products(tile(given.reg), tile(given.rm), tile(given.other));
  else
    fault("an instruction that is not known here");
  registers[REG_RIP] += given.length;
}

bool has_avx512() {
  for (int i = 0; i < hubel::kIsaCount; ++i)
    if (std::strcmp(hubel::kIsas[i].name, "avx512") == 0) return hubel::kIsas[i].available();
  return false;
}

}  // namespace

bool emulate_tiles() {
  if (!has_avx512()) return false;  // what the kernels do besides
  struct sigaction action = {};
  action.sa_sigaction = carry_out;
  action.sa_flags = SA_SIGINFO;
  return sigaction(SIGILL, &action, nullptr) == 0;
}

}  // namespace selftest

#else

namespace selftest {

bool emulate_tiles() { return false; }

}  // namespace selftest

#endif
