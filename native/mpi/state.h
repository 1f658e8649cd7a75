// What MPI's thread and the callers share.
#pragma once

#include <mpi.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "exchange.h"

namespace {

struct State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::shared_ptr<Exchange>> queue;
  // Exchanges whose pool has been given room.
  std::deque<std::shared_ptr<Exchange>> roomy;
  // Operator each rank was last heard from in.
  std::map<int, std::string> last_label;
  std::map<int64_t, std::shared_ptr<Exchange>> all;
  int64_t next_id = 1;
  bool initialized = false, finalizing = false, finalized = false;
  std::string init_error;
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
