// The job whose ranks call MPI's functions; one at a time. Ranks are dealt out as threads come to MPI_Init_thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fake {

struct JobOptions {
  int size;
  uint64_t seed;
  // Longer messages are read from the sender's memory only when the receiver waits for them.
  int64_t eager_limit;
  // All ranks on one host, or each on its own.
  bool shared_memory;
  // Now and then a message is reported to have failed.
  bool messages_fail = false;
  // MPI_Abort does not return.
  bool abort_hangs = false;
};

void BeginJob(const JobOptions& options);

// Nothing moves any more, and calls that wait for other ranks return.
void BreakJob();

// When no thread uses the job any more. Returns what was not as MPI wants it.
std::vector<std::string> EndJob();

}  // namespace fake
