// The messages of an exchange: notes ahead, rows in pieces. Called on MPI's thread only.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <mutex>
#include <string>

#include "exchange.h"
#include "state.h"

namespace {

// Up to the eager limit a message needs no "you may send", which would queue behind the other direction's rows on one
// connection (measured: exactly twice the line time). So rows travel in pieces that leave room for MPI's header, few at a
// time, since MPI copies each: they are never early, because a pool's rows leave once the peer has noted its sizes.
constexpr const char* kEagerLimit = "4194304";
constexpr int64_t kPieceBytes = (4 << 20) - (64 << 10);
constexpr int kPiecesUnderWay = 2;

double NowMs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

std::string ErrorText(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, length);
}

// Notes and rows of an exchange are apart, and so are exchanges.
int NoteTag(const Exchange& x) { return 2 * x.tag + 1; }
int RowsTag(const Exchange& x) { return 2 * x.tag; }

int64_t Pieces(const State& s, int64_t bytes) {
  return std::max<int64_t>(1, (bytes + s.piece_bytes - 1) / s.piece_bytes);
}

// Room for one more request.
MPI_Request* NewRequest(Exchange& x, size_t peer, Kind kind) {
  x.requests.push_back(MPI_REQUEST_NULL);
  x.messages.push_back({peer, kind});
  return &x.requests.back();
}

void ReceivePiece(State& s, Exchange& x, size_t p, int64_t piece, int64_t bytes) {
  Peer& peer = x.peers[p];
  int64_t from = piece * s.piece_bytes;
  MPI_Irecv(peer.recv + from, static_cast<int>(std::min(s.piece_bytes, bytes - from)), MPI_BYTE, peer.rank, RowsTag(x), s.world,
            NewRequest(x, p, kRowsIn));
}

// The pieces of rows whose size is known now, from the first that no receive waits for.
void ReceiveRows(State& s, Exchange& x, size_t p, int64_t first) {
  const int64_t bytes = x.peers[p].got_bytes, pieces = Pieces(s, bytes);
  for (int64_t piece = first; piece < pieces; piece++) ReceivePiece(s, x, p, piece, bytes);
}

void SendRows(State& s, Exchange& x, size_t p) {
  Peer& peer = x.peers[p];
  for (; peer.pieces_under_way < kPiecesUnderWay && peer.pieces_sent < peer.pieces_out; peer.pieces_under_way++) {
    int64_t from = peer.pieces_sent++ * s.piece_bytes;
    MPI_Isend(peer.send + from, static_cast<int>(std::min(s.piece_bytes, peer.send_bytes - from)), MPI_BYTE, peer.rank,
              RowsTag(x), s.world, NewRequest(x, p, kRowsOut));
  }
}

// Tells the callers how far the exchange is.
void Publish(State& s, Exchange& x) {
  const bool wants_room = x.notes_left == 0 && x.num_parked > 0 && !x.asked_for_room;
  // Once: between the answer and its arrival here rows are parked still.
  if (wants_room) x.asked_for_room = true;
  std::lock_guard<std::mutex> lock(s.mutex);
  Report& report = x.report;
  for (size_t p = 0; p < x.peers.size(); p++) {
    report.got_bytes[p] = x.peers[p].left == 0 ? x.peers[p].got_bytes : -1;
    report.got_offsets[p] = x.peers[p].got_offset;
  }
  report.ready_ms = x.ready_ms;
  report.end_ms = x.end_ms;
  report.error = x.error;
  // Something being wrong with it, the waiting rank must hear of it now.
  report.done = x.left == 0 || !x.error.empty();
  report.released = x.left == 0;
  if (wants_room) {
    report.wants_room = true;
    report.wanted = x.pool.used;
  }
  if (report.done || wants_room) s.changed.notify_all();
}

void Post(State& s, Exchange& x) {
  x.ready_ms = x.end_ms = NowMs();
  x.notes_left = x.peers.size();
  for (size_t p = 0; p < x.peers.size(); p++) {
    Peer& peer = x.peers[p];
    peer.pieces_out = Pieces(s, peer.send_bytes);
    // Two notes, what we send, and at least one piece that we receive: how many, the note will say.
    peer.left = 2 + peer.pieces_out + 1;
    x.left += peer.left;
    MPI_Irecv(peer.note_in.data(), static_cast<int>(peer.note_in.size()), MPI_BYTE, peer.rank, NoteTag(x), s.world,
              NewRequest(x, p, kNoteIn));
    if (!x.has_pool) ReceivePiece(s, x, p, 0, peer.recv_bytes);
  }
  for (size_t p = 0; p < x.peers.size(); p++) {
    Peer& peer = x.peers[p];
    MPI_Isend(peer.note_out.data(), static_cast<int>(peer.note_out.size()), MPI_BYTE, peer.rank, NoteTag(x), s.world,
              NewRequest(x, p, kNoteOut));
    if (!x.has_pool) SendRows(s, x, p);
  }
  Publish(s, x);
}

void Fail(Exchange& x, const std::string& error) {
  if (x.error.empty()) x.error = error;
}

// A peer's note has come: its sizes are known, so its rows get their place.
void ReadNote(State& s, Exchange& x, size_t p) {
  Peer& peer = x.peers[p];
  Note note;
  memcpy(&note, peer.note_in.data(), sizeof note);
  note.label[kLabelBytes - 1] = 0;
  std::string label(note.label), name = "rank " + std::to_string(peer.rank), me = "rank " + std::to_string(s.rank);
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    s.last_label[peer.rank] = label;
  }
  if (label != x.label) Fail(x, "Ranks " + std::to_string(s.rank) + " and " + std::to_string(peer.rank) + " are in different operators: " + x.label + " and " + label);
  if (note.values != x.values)
    Fail(x, name + " notes " + std::to_string(note.values) + " values, " + me + " " + std::to_string(x.values));
  else if (x.values > 0)
    memcpy(x.values_in + p * x.values, peer.note_in.data() + sizeof note, x.values * sizeof(int32_t));
  peer.got_bytes = note.bytes;
  const int64_t more = Pieces(s, note.bytes) - 1;
  peer.left += more;
  x.left += more;
  if (!x.has_pool) {
    if (note.bytes > peer.recv_bytes)
      Fail(x, name + " sends " + std::to_string(note.bytes) + " bytes to " + me + ", which expects at most " + std::to_string(peer.recv_bytes));
    else
      ReceiveRows(s, x, p, 1);
    return;
  }
  peer.got_offset = x.pool.used;
  x.pool.used += note.bytes;
  if (x.pool.used <= x.pool.room) {
    peer.recv = x.pool.memory + peer.got_offset;
    ReceiveRows(s, x, p, 0);
  } else {
    peer.parked = true;
    x.num_parked++;
  }
  // Not earlier: the peer's rows may begin once we say that there is room for them, and we say so on the connection that
  // our own rows would fill. Sent first, they make both directions run one after the other.
  SendRows(s, x, p);
}

// The pool has grown: what was parked is received where it would have been.
void ReceiveParked(State& s, Exchange& x, char* memory) {
  x.pool.memory = memory;
  for (size_t p = 0; p < x.peers.size(); p++) {
    Peer& peer = x.peers[p];
    if (!peer.parked) continue;
    peer.parked = false;
    peer.recv = x.pool.memory + peer.got_offset;
    ReceiveRows(s, x, p, 0);
  }
  x.num_parked = 0;
}

// True when something finished.
bool Progress(State& s, Exchange& x) {
  int count = 0;
  x.indices.resize(x.requests.size());
  x.statuses.resize(x.requests.size());
  int code = MPI_Testsome(static_cast<int>(x.requests.size()), x.requests.data(), &count, x.indices.data(), x.statuses.data());
  if (count == MPI_UNDEFINED || count <= 0) return false;
  double now = NowMs();
  for (int i = 0; i < count; i++) {
    const auto [p, kind] = x.messages[x.indices[i]];
    Peer& peer = x.peers[p];
    int error = code == MPI_ERR_IN_STATUS ? x.statuses[i].MPI_ERROR : MPI_SUCCESS;
    if (error != MPI_SUCCESS) Fail(x, "rank " + std::to_string(peer.rank) + ": " + ErrorText(error));
    if (kind == kNoteIn) {
      x.ready_ms = now;
      x.notes_left--;
      if (error == MPI_SUCCESS) ReadNote(s, x, p);
    }
    if (kind == kRowsIn) x.end_ms = now;
    if (kind == kRowsOut) {
      peer.pieces_under_way--;
      SendRows(s, x, p);
    }
    peer.left--;
    x.left--;
  }
  Publish(s, x);
  return true;
}

}  // namespace
