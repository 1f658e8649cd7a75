// A ragged all-to-all under way: what goes to and comes from each peer.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>
#include <vector>

namespace {

constexpr size_t kLabelBytes = 64;

// Travels ahead of the rows, followed by `values` numbers of the caller.
struct Note {
  int64_t bytes;
  int64_t values;
  char label[kLabelBytes];
};

struct Peer {
  int rank;
  char* send;
  int64_t send_bytes;
  // In a pool, null until the note has come.
  char* recv;
  int64_t recv_bytes;
  std::vector<char> note_out, note_in;
  int64_t got_bytes = 0, got_offset = 0;
  bool parked = false;
  int64_t pieces_out = 1, pieces_sent = 0, pieces_under_way = 0;
  // Messages that have not ended, pieces not yet sent included; a peer that does not take our rows is late, too.
  int64_t left = 0;
};

// Memory for rows of unknown sizes: dealt out in the order in which notes arrive.
struct Pool {
  char* memory;
  int64_t room, used;
};

enum Kind { kNoteOut, kNoteIn, kRowsOut, kRowsIn };

struct Message {
  size_t peer;
  Kind kind;
};

struct Exchange {
  int tag;
  std::string label;
  std::vector<Peer> peers;
  bool has_pool = false, asked_for_room = false;
  Pool pool{};
  // Where the peers' values go, `values` each.
  int32_t* values_in = nullptr;
  int64_t values = 0;
  // One message each, in the order in which they were posted.
  std::vector<MPI_Request> requests;
  std::vector<Message> messages;
  std::vector<int> indices;
  std::vector<MPI_Status> statuses;
  double ready_ms = 0, end_ms = 0;
  int64_t left = 0;
  size_t notes_left = 0, num_parked = 0;
  // Guarded by State::mutex. wants_room: all sizes are known, and some rows have no place.
  bool done = false, wants_room = false;
  std::string error;
};

}  // namespace
