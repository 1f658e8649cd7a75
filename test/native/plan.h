// What the ranks of a case exchange, and what goes wrong: follows from the case's seed alone, so that every rank knows what
// it has to get from every other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "random.h"

namespace {

enum Fault {
  kNone,     // Everything ends well.
  kClose,    // Ranks finalize while exchanges are under way, and wait for them afterwards.
  kLate,     // One rank starts late.
  kNever,    // One rank never starts.
  kSilent,   // One rank leaves the last exchanges out.
  kStop,     // One rank leaves in the middle, and its memory goes.
  kAbort,    // One rank ends the job in the middle.
  kLabel,    // One rank is in another operator.
  kValues,   // One rank notes more values.
  kTooBig,   // One rank sends more than another expects.
  kFailing,  // MPI reports messages as failed.
  kNumFaults,
};

constexpr const char* kFaultNames[kNumFaults] = {"none",  "close", "late",   "never",   "silent", "stop",
                                                 "abort", "label", "values", "too big", "failing"};

struct PlannedExchange {
  int communicator, sequence;
  int64_t values;
  std::string label;
  uint64_t seed;
  // [from][to] by index in the communicator's group; groups are smaller than `bytes`.
  std::vector<std::vector<int64_t>> bytes;
};

struct Plan {
  uint64_t seed;
  int size;
  int64_t piece_bytes;
  Fault fault;
  int faulty;
  // In exchanges of the faulty rank with others.
  int faulty_exchange;
  // [communicator][rank] colour; 0 is the world.
  std::vector<std::vector<int>> colours;
  // [communicator]
  std::vector<std::vector<PlannedExchange>> exchanges;

  // Ranks of the communicator in which `rank` is.
  std::vector<int> Group(int communicator, int rank) const {
    const auto& colour = colours[communicator];
    std::vector<int> group;
    for (int r = 0; r < size; r++)
      if (colour[r] == colour[rank]) group.push_back(r);
    return group;
  }
};

// Number `at` of what `from` sends to `to`.
int32_t RowAt(uint64_t seed, int from, int to, int64_t at) {
  return static_cast<int32_t>(Mix(seed ^ (static_cast<uint64_t>(from * 16 + to) << 40) ^ static_cast<uint64_t>(at)));
}

void FillRows(char* rows, int64_t bytes, uint64_t seed, int from, int to) {
  for (int64_t at = 0; at < bytes / 4; at++) {
    const int32_t row = RowAt(seed, from, to, at);
    memcpy(rows + 4 * at, &row, 4);
  }
}

bool AreRows(const char* rows, int64_t bytes, uint64_t seed, int from, int to) {
  for (int64_t at = 0; at < bytes / 4; at++) {
    int32_t row;
    memcpy(&row, rows + 4 * at, 4);
    if (row != RowAt(seed, from, to, at)) return false;
  }
  return true;
}

int32_t ValueAt(uint64_t seed, int from, int to, int64_t at) {
  return static_cast<int32_t>(Mix(~seed ^ static_cast<uint64_t>((from * 16 + to) * 1000 + at)));
}

Plan MakePlan(uint64_t seed) {
  Random random(seed);
  Plan plan;
  plan.seed = seed;
  plan.size = 2 + static_cast<int>(random.Below(4));
  const int64_t pieces[] = {16, 64, 500, 4096};
  plan.piece_bytes = pieces[random.Below(4)];
  plan.fault = random.OneIn(4) ? kNone : static_cast<Fault>(random.Below(kNumFaults));
  plan.faulty = static_cast<int>(random.Below(plan.size));
  plan.faulty_exchange = static_cast<int>(random.Below(6));
  const int num_communicators = 1 + static_cast<int>(random.Below(4));
  for (int c = 0; c < num_communicators; c++) {
    const int num_colours = c == 0 ? 1 : 1 + static_cast<int>(random.Below(plan.size));
    std::vector<int> colours;
    for (int r = 0; r < plan.size; r++) colours.push_back(static_cast<int>(random.Below(num_colours)));
    plan.colours.push_back(colours);
    std::vector<PlannedExchange> exchanges;
    const int num_exchanges = 1 + static_cast<int>(random.Below(8));
    for (int i = 0; i < num_exchanges; i++) {
      PlannedExchange x{c, i, random.OneIn(2) ? 0 : random.Below(9), "L" + std::to_string(c) + "." + std::to_string(i),
                        Mix(seed ^ static_cast<uint64_t>(c * 100 + i + 1)), {}};
      // As long as notes have room for, and longer.
      if (random.OneIn(6)) x.label.resize(60 + random.Below(10), 'x');
      const int64_t longest = random.OneIn(3) ? 12 * plan.piece_bytes : 2 * plan.piece_bytes;
      x.bytes.assign(plan.size, std::vector<int64_t>(plan.size));
      for (auto& row : x.bytes)
        for (int64_t& bytes : row) bytes = random.OneIn(4) ? 0 : random.Below(longest / 4 + 1) * 4;
      exchanges.push_back(x);
    }
    plan.exchanges.push_back(exchanges);
  }
  return plan;
}

}  // namespace
