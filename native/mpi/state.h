// What MPI's thread and the callers of a rank share: all of it under the mutex, except what is written once before the
// others know of it (rank, size and has_local_peers before `initialized`, wake_fd and piece_bytes before MPI's thread
// begins), and `world`, which MPI's thread alone uses.
#pragma once

#include <mpi.h>

#include <sys/eventfd.h>
#include <unistd.h>

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
  explicit State(int64_t piece_bytes) : piece_bytes(piece_bytes), wake_fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
  ~State() { close(wake_fd); }
  State(const State&) = delete;

  // Ends the sleep of MPI's thread.
  void Wake() {
    uint64_t one = 1;
    if (write(wake_fd, &one, sizeof one) < 0) return;
  }

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
  // Rows travel in pieces of so many bytes at most.
  const int64_t piece_bytes;
  const int wake_fd;
  MPI_Comm world = MPI_COMM_NULL;
};

}  // namespace
