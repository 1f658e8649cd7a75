// What MPI's thread and the callers share: all of it under the mutex, except what is written once before the others know of
// it (rank, size and has_local_peers before `initialized`, wake_fd before MPI's thread begins).
#pragma once

#include <mpi.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "exchange.h"

namespace {

struct State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::shared_ptr<Exchange>> queue;
  // Exchanges whose pool has been given room, and where.
  std::deque<std::pair<std::shared_ptr<Exchange>, char*>> roomy;
  // Operator each rank was last heard from in.
  std::map<int, std::string> last_label;
  std::map<int64_t, std::shared_ptr<Exchange>> all;
  int64_t next_id = 1;
  bool initialized = false, finalizing = false, stopping = false;
  // MPI's thread makes no more calls: all ranks have finalized, or it was stopped.
  bool finalized = false, stopped = false;
  int rank = 0, size = 1;
  bool has_local_peers = false;
  int wake_fd = -1;
};

// Never destroyed: the thread may outlive static destructors.
State& S() {
  static State* state = new State;
  return *state;
}

MPI_Comm world = MPI_COMM_NULL;

}  // namespace
