// Ragged all-to-all over MPI: the C interface for src/comm/mpi to this process's rank. What the functions take and return is
// said in rank.h.
#include <mpi.h>

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>

#include "messages.h"
#include "rank.h"

namespace {

// Never destroyed: its thread may outlive static destructors.
Rank& R() {
  static Rank* rank = new Rank;
  return *rank;
}

// The caller copies it before it calls again.
const char* Text(std::string text) {
  static thread_local std::string kept;
  return (kept = std::move(text)).c_str();
}

}  // namespace

extern "C" {

int scmoe_mpi_init(double timeout_ms) {
  // One message at a time per direction: with PUT emulation both directions now and then run one after the other.
  setenv("OMPI_MCA_btl_tcp_flags", "1", 0);
  setenv("OMPI_MCA_btl_tcp_eager_limit", kEagerLimit, 0);
  return R().Init(timeout_ms);
}

int scmoe_mpi_rank() { return R().rank(); }
int scmoe_mpi_size() { return R().size(); }

int64_t scmoe_mpi_post(int tag, const char* label, int peers, const int32_t* ranks, const int64_t* send, const int64_t* send_bytes,
                       const int64_t* recv, const int64_t* recv_bytes, const int64_t* pool, int64_t values, const int32_t* values_out,
                       int32_t* values_in) {
  return R().Post(tag, label, peers, ranks, send, send_bytes, recv, recv_bytes, pool, values, values_out, values_in);
}

int scmoe_mpi_done(int64_t id) { return R().Done(id); }
int64_t scmoe_mpi_wants_room() { return R().WantsRoom(); }
int64_t scmoe_mpi_wanted(int64_t id) { return R().Wanted(id); }
void scmoe_mpi_room(int64_t id, int64_t address) { R().Room(id, address); }

int scmoe_mpi_wait(int64_t id, double deadline_ms, int64_t* got_bytes, int64_t* got_offsets, double* times) {
  return R().Wait(id, deadline_ms, got_bytes, got_offsets, times);
}

int scmoe_mpi_released(int64_t id) { return R().Released(id); }
const char* scmoe_mpi_error(int64_t id) { return Text(R().Error(id)); }
const char* scmoe_mpi_last_label(int rank) { return Text(R().LastLabel(rank)); }

// Writes the ranks, at most so many, whose part of the oldest exchange under way is missing. Returns their number.
int scmoe_mpi_missing(int32_t* ranks, int most) { return R().Missing(ranks, most); }

// Ends the whole job; leaves even if MPI does not return.
void scmoe_mpi_abort(int code) {
  std::thread([code] { MPI_Abort(MPI_COMM_WORLD, code); }).detach();
  std::thread([code] {
    std::this_thread::sleep_for(std::chrono::seconds(2));
    _exit(code);
  }).detach();
}

int scmoe_mpi_finalize(double timeout_ms) { return R().Finalize(timeout_ms); }
int scmoe_mpi_stop(double timeout_ms) { return R().Stop(timeout_ms); }
}
