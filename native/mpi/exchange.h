// A ragged all-to-all under way: what goes to and comes from each peer.
//
// Who owns what. From Rank::Post on, the memory that the request names (rows to send, room or pool for rows to come,
// where the peers' values go, and what a pool grew into) belongs to MPI: its owner keeps it and leaves it alone. MPI lets
// go when every message of the exchange has ended. Rank::Wait says so by 0. After a deadline or a failure messages may
// be under way still: MPI then goes on with them as if nothing had happened, and the owner keeps the memory until
// Rank::Released says 1 -- for ever, if a peer never does its part. Before the owner's whole memory goes (its thread
// ends), Rank::Stop takes the process out of MPI: nothing is moved after that. All else, labels and lists, is copied
// in Rank::Post.
//
// Who writes what. An Exchange is filled in by its poster, handed over under State::mutex, and from then on belongs to
// MPI's thread alone; only its `report` is for others, and only under State::mutex.
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
  // Messages that have not ended, pieces not yet sent included; a peer that does not take our rows counts as not answering, too.
  int64_t left = 0;
};

// Memory for rows of unknown sizes: dealt out in the order in which notes arrive.
struct Pool {
  char* memory;
  int64_t room, used;
};

enum Kind { kNoteOut, kNoteIn, kRowsOut, kRowsIn };

// What callers may know of an exchange. Guarded by State::mutex.
struct Report {
  // Bytes from each peer, -1 while messages with it are under way; and where in the pool.
  std::vector<int64_t> got_bytes, got_offsets;
  double ready_ms = 0, end_ms = 0;
  // All sizes are known, and some rows have no place: the pool needs so many bytes.
  bool wants_room = false;
  int64_t wanted = 0;
  // Finished or failed, and let go of: a failed one may have messages under way.
  bool done = false, released = false;
  std::string error;
};

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
  std::string error;
  Report report;
};

}  // namespace
