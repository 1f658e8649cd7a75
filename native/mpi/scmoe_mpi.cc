// Ragged all-to-all over MPI, with a C interface for src/comm/mpi. One thread owns MPI (MPI_THREAD_FUNNELED): it takes
// requests from a queue, posts point-to-point messages, and sleeps until MPI's own TCP sockets stir, so that messages
// progress while JavaScript computes and hardly any processor time is taken from it.
#include <mpi.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

// Sizes are counted in units of four bytes, so that one message may have 8 GiB.
constexpr int64_t kUnit = 4;
constexpr int kNoteTagBit = 1 << 20;
constexpr int kExtraLooks = 2;
// Up to the eager limit a message needs no "you may send", which would queue behind the other direction's rows on one
// connection (measured: exactly twice the line time). So rows travel in pieces that leave room for MPI's header, few at a
// time, since MPI copies each: they are never early, because a pool's rows leave once the peer has noted its sizes.
constexpr const char* kEagerLimit = "4194304";
constexpr int64_t kPiece = (4 << 20) - (64 << 10);
constexpr int kPiecesUnderWay = 2;
constexpr auto kFallbackWait = std::chrono::microseconds(1000);

double NowMs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

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

struct Request {
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
  std::vector<MPI_Request> requests;
  // What each of them is.
  std::vector<Request> meanings;
  std::vector<int> indices;
  std::vector<MPI_Status> statuses;
  double ready_ms = 0, end_ms = 0;
  int64_t left = 0;
  size_t notes_left = 0, num_parked = 0;
  // Guarded by State::mutex. wants_room: all sizes are known, and some rows have no place.
  bool done = false, wants_room = false;
  std::string error;
};

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

class Sleeper {
 public:
  Sleeper() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = S().wake_fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, S().wake_fd, &event);
  }

  // Edge-triggered, since "room to write again" must wake as well as "data". MPI opens sockets lazily: look again now and then.
  void Refresh() {
    if (++calls_ % 64 != 1) return;
    DIR* dir = opendir("/proc/self/fd");
    if (dir == nullptr) return;
    while (dirent* entry = readdir(dir)) {
      int fd = atoi(entry->d_name);
      if (fd <= 2 || known_.count(fd)) continue;
      sockaddr_storage address{};
      socklen_t length = sizeof address;
      if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) continue;
      if (address.ss_family != AF_INET && address.ss_family != AF_INET6) continue;
      epoll_event event{};
      event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
      event.data.fd = fd;
      if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0) known_.insert(fd);
    }
    closedir(dir);
  }

  void Sleep(std::chrono::microseconds longest) {
    epoll_event events[16];
    timespec timeout{0, static_cast<long>(longest.count()) * 1000};
    int n = epoll_pwait2(epoll_, events, 16, &timeout, nullptr);
    for (int i = 0; i < n; i++)
      if (events[i].data.fd == S().wake_fd) {
        uint64_t count;
        if (read(S().wake_fd, &count, sizeof count) < 0) continue;
      }
  }

 private:
  int epoll_;
  std::set<int> known_;
  unsigned calls_ = 0;
};

std::string ErrorText(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, length);
}

int64_t Pieces(int64_t bytes) { return std::max<int64_t>(1, (bytes + kPiece - 1) / kPiece); }

// Room for one more request.
MPI_Request* NewRequest(Exchange& x, size_t peer, Kind kind) {
  x.requests.push_back(MPI_REQUEST_NULL);
  x.meanings.push_back({peer, kind});
  return &x.requests.back();
}

void ReceivePiece(Exchange& x, size_t p, int64_t piece, int64_t bytes) {
  Peer& peer = x.peers[p];
  int64_t from = piece * kPiece;
  MPI_Irecv(peer.recv + from, static_cast<int>(std::min(kPiece, bytes - from) / kUnit), MPI_INT32_T, peer.rank, x.tag, world,
            NewRequest(x, p, kRowsIn));
}

// The pieces of rows whose size is known now, from the first that no receive waits for.
void ReceiveRows(Exchange& x, size_t p, int64_t first) {
  const int64_t bytes = x.peers[p].got_bytes, pieces = Pieces(bytes);
  for (int64_t piece = first; piece < pieces; piece++) ReceivePiece(x, p, piece, bytes);
}

void SendRows(Exchange& x, size_t p) {
  Peer& peer = x.peers[p];
  for (; peer.pieces_under_way < kPiecesUnderWay && peer.pieces_sent < peer.pieces_out; peer.pieces_under_way++) {
    int64_t from = peer.pieces_sent++ * kPiece;
    MPI_Isend(peer.send + from, static_cast<int>(std::min(kPiece, peer.send_bytes - from) / kUnit), MPI_INT32_T, peer.rank,
              x.tag, world, NewRequest(x, p, kRowsOut));
  }
}

void Post(Exchange& x) {
  x.ready_ms = x.end_ms = NowMs();
  x.notes_left = x.peers.size();
  for (size_t p = 0; p < x.peers.size(); p++) {
    Peer& peer = x.peers[p];
    peer.pieces_out = Pieces(peer.send_bytes);
    // Two notes, what we send, and at least one piece that we receive: how many, the note will say.
    peer.left = 2 + peer.pieces_out + 1;
    x.left += peer.left;
    MPI_Irecv(peer.note_in.data(), static_cast<int>(peer.note_in.size()), MPI_BYTE, peer.rank, x.tag | kNoteTagBit, world,
              NewRequest(x, p, kNoteIn));
    if (!x.has_pool) ReceivePiece(x, p, 0, peer.recv_bytes);
  }
  for (size_t p = 0; p < x.peers.size(); p++) {
    Peer& peer = x.peers[p];
    MPI_Isend(peer.note_out.data(), static_cast<int>(peer.note_out.size()), MPI_BYTE, peer.rank, x.tag | kNoteTagBit, world,
              NewRequest(x, p, kNoteOut));
    if (!x.has_pool) SendRows(x, p);
  }
}

void Fail(Exchange& x, const std::string& error) {
  if (x.error.empty()) x.error = error;
}

// A peer's note has come: its sizes are known, so its rows get their place.
void ReadNote(Exchange& x, size_t p) {
  Peer& peer = x.peers[p];
  Note note;
  memcpy(&note, peer.note_in.data(), sizeof note);
  note.label[kLabelBytes - 1] = 0;
  std::string label(note.label), name = "rank " + std::to_string(peer.rank), me = "rank " + std::to_string(S().rank);
  {
    std::lock_guard<std::mutex> lock(S().mutex);
    S().last_label[peer.rank] = label;
  }
  if (label != x.label) Fail(x, "Ranks " + std::to_string(S().rank) + " and " + std::to_string(peer.rank) + " are in different operators: " + x.label + " and " + label);
  if (note.values == x.values)
    memcpy(x.values_in + p * x.values, peer.note_in.data() + sizeof note, x.values * sizeof(int32_t));
  else
    Fail(x, name + " notes " + std::to_string(note.values) + " values, " + me + " " + std::to_string(x.values));
  peer.got_bytes = note.bytes;
  const int64_t more = Pieces(note.bytes) - 1;
  peer.left += more;
  x.left += more;
  if (!x.has_pool) {
    if (note.bytes > peer.recv_bytes)
      Fail(x, name + " sends " + std::to_string(note.bytes) + " bytes to " + me + ", which expects at most " + std::to_string(peer.recv_bytes));
    else
      ReceiveRows(x, p, 1);
    return;
  }
  peer.got_offset = x.pool.used;
  x.pool.used += note.bytes;
  if (x.pool.used <= x.pool.room) {
    peer.recv = x.pool.memory + peer.got_offset;
    ReceiveRows(x, p, 0);
  } else {
    peer.parked = true;
    x.num_parked++;
  }
  // Not earlier: the peer's rows may begin once we say that there is room for them, and we say so on the connection that
  // our own rows would fill. Sent first, they make both directions run one after the other.
  SendRows(x, p);
}

// The pool has grown: what was parked is received where it would have been.
void ReceiveParked(Exchange& x) {
  for (size_t p = 0; p < x.peers.size(); p++) {
    Peer& peer = x.peers[p];
    if (!peer.parked) continue;
    peer.parked = false;
    peer.recv = x.pool.memory + peer.got_offset;
    ReceiveRows(x, p, 0);
  }
  x.num_parked = 0;
}

// True when something finished.
bool Progress(Exchange& x) {
  int count = 0;
  x.indices.resize(x.requests.size());
  x.statuses.resize(x.requests.size());
  int code = MPI_Testsome(static_cast<int>(x.requests.size()), x.requests.data(), &count, x.indices.data(), x.statuses.data());
  if (count == MPI_UNDEFINED || count <= 0) return false;
  double now = NowMs();
  for (int i = 0; i < count; i++) {
    const auto [p, kind] = x.meanings[x.indices[i]];
    Peer& peer = x.peers[p];
    int error = code == MPI_ERR_IN_STATUS ? x.statuses[i].MPI_ERROR : MPI_SUCCESS;
    if (error != MPI_SUCCESS) Fail(x, "rank " + std::to_string(peer.rank) + ": " + ErrorText(error));
    if (kind == kNoteIn) {
      x.ready_ms = now;
      x.notes_left--;
      if (error == MPI_SUCCESS) ReadNote(x, p);
    }
    if (kind == kRowsIn) x.end_ms = now;
    if (kind == kRowsOut) {
      peer.pieces_under_way--;
      SendRows(x, p);
    }
    peer.left--;
    x.left--;
  }
  // Once: between the answer and its arrival here rows are parked still.
  if (x.notes_left == 0 && x.num_parked > 0 && !x.asked_for_room) {
    x.asked_for_room = true;
    std::lock_guard<std::mutex> lock(S().mutex);
    x.wants_room = true;
    S().changed.notify_all();
  }
  return true;
}

// Nothing of it can arrive any more, or something is wrong with it: the waiting rank must hear of it now.
bool IsOver(const Exchange& x) { return x.left == 0 || !x.error.empty(); }

void Run() {
  State& s = S();
  // One message at a time per direction: with PUT emulation both directions now and then run one after the other.
  setenv("OMPI_MCA_btl_tcp_flags", "1", 0);
  setenv("OMPI_MCA_btl_tcp_eager_limit", kEagerLimit, 0);
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) s.init_error = "MPI_Init_thread failed";
  MPI_Comm_dup(MPI_COMM_WORLD, &world);
  MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
  MPI_Comm local;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local);
  int locals = 1;
  MPI_Comm_size(local, &locals);
  MPI_Comm_free(&local);
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    MPI_Comm_rank(world, &s.rank);
    MPI_Comm_size(world, &s.size);
    s.has_local_peers = locals > 1;
    s.initialized = true;
  }
  s.changed.notify_all();

  Sleeper sleeper;
  std::vector<std::shared_ptr<Exchange>> active;
  auto shortest = std::chrono::microseconds(20);
  auto pause = shortest;
  for (;;) {
    std::deque<std::shared_ptr<Exchange>> fresh, roomy;
    {
      std::lock_guard<std::mutex> lock(s.mutex);
      fresh.swap(s.queue);
      roomy.swap(s.roomy);
      if (s.finalizing && fresh.empty() && active.empty()) break;
    }
    for (auto& x : fresh) {
      Post(*x);
      active.push_back(x);
    }
    for (auto& x : roomy) ReceiveParked(*x);
    bool moved = !fresh.empty() || !roomy.empty();
    for (int look = 0; look <= kExtraLooks; look++)
      for (auto& x : active) moved = Progress(*x) || moved;
    bool finished = false;
    for (size_t i = 0; i < active.size();) {
      if (!IsOver(*active[i])) {
        i++;
        continue;
      }
      {
        std::lock_guard<std::mutex> lock(s.mutex);
        active[i]->done = true;
      }
      finished = true;
      active.erase(active.begin() + i);
    }
    if (finished) s.changed.notify_all();
    if (moved) {
      pause = shortest;
      continue;
    }
    if (active.empty()) {
      sleeper.Sleep(std::chrono::microseconds(100000));
      continue;
    }
    sleeper.Refresh();
    // Shared memory has no socket to wait for: short sleeps that grow.
    if (s.has_local_peers) {
      sleeper.Sleep(pause);
      pause = std::min(pause * 2, kFallbackWait);
    } else {
      sleeper.Sleep(kFallbackWait);
    }
  }
  MPI_Comm_free(&world);
  MPI_Finalize();
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    s.finalized = true;
  }
  s.changed.notify_all();
}

void Wake() {
  uint64_t one = 1;
  if (write(S().wake_fd, &one, sizeof one) < 0) return;
}

}  // namespace

extern "C" {

// Starts MPI. Returns 0, or 1 after timeout_ms.
int scmoe_mpi_init(double timeout_ms) {
  State& s = S();
  if (s.wake_fd < 0) {
    s.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    std::thread(Run).detach();
  }
  std::unique_lock<std::mutex> lock(s.mutex);
  bool ok = s.changed.wait_for(lock, std::chrono::duration<double, std::milli>(timeout_ms), [&] { return s.initialized; });
  return ok ? 0 : 1;
}

int scmoe_mpi_rank() { return S().rank; }
int scmoe_mpi_size() { return S().size; }

// Arrays have `peers` elements; addresses and bytes as int64. `pool`: null, or {address, room, used}; then recv and recv_bytes
// are not read. `values` numbers per peer travel ahead, from values_out to values_in. Returns an id.
int64_t scmoe_mpi_post(int tag, const char* label, int peers, const int32_t* ranks, const int64_t* send, const int64_t* send_bytes,
                       const int64_t* recv, const int64_t* recv_bytes, const int64_t* pool, int64_t values, const int32_t* values_out,
                       int32_t* values_in) {
  State& s = S();
  auto x = std::make_shared<Exchange>();
  x->tag = tag;
  x->label = std::string(label).substr(0, kLabelBytes - 1);
  x->values = values;
  x->values_in = values_in;
  x->has_pool = pool != nullptr;
  if (pool != nullptr) x->pool = {reinterpret_cast<char*>(pool[0]), pool[1], pool[2]};
  for (int p = 0; p < peers; p++) {
    Peer peer{};
    peer.rank = ranks[p];
    peer.send = reinterpret_cast<char*>(send[p]);
    peer.send_bytes = send_bytes[p];
    peer.recv = pool == nullptr ? reinterpret_cast<char*>(recv[p]) : nullptr;
    peer.recv_bytes = pool == nullptr ? recv_bytes[p] : 0;
    Note note{send_bytes[p], values, {}};
    memcpy(note.label, x->label.data(), x->label.size());
    peer.note_out.resize(sizeof note + values * sizeof(int32_t));
    peer.note_in.resize(peer.note_out.size());
    memcpy(peer.note_out.data(), &note, sizeof note);
    memcpy(peer.note_out.data() + sizeof note, values_out + p * values, values * sizeof(int32_t));
    x->peers.push_back(std::move(peer));
  }
  int64_t id;
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    id = s.next_id++;
    s.all[id] = x;
    s.queue.push_back(x);
  }
  Wake();
  return id;
}

// 0: under way, 1: finished or failed, 2: its pool needs room.
int scmoe_mpi_done(int64_t id) {
  State& s = S();
  std::lock_guard<std::mutex> lock(s.mutex);
  auto found = s.all.find(id);
  if (found == s.all.end() || found->second->done) return 1;
  return found->second->wants_room ? 2 : 0;
}

// Bytes that a pool needs in all.
int64_t scmoe_mpi_wanted(int64_t id) {
  State& s = S();
  std::lock_guard<std::mutex> lock(s.mutex);
  auto found = s.all.find(id);
  return found == s.all.end() ? 0 : found->second->pool.used;
}

// Gives a pool new memory of that size; what has its place in the old one still arrives there.
void scmoe_mpi_room(int64_t id, int64_t address) {
  State& s = S();
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    auto found = s.all.find(id);
    if (found == s.all.end()) return;
    found->second->wants_room = false;
    found->second->pool.memory = reinterpret_cast<char*>(address);
    s.roomy.push_back(found->second);
  }
  Wake();
}

// 0: finished, 1: deadline passed, 2: failed (see scmoe_mpi_error), 3: its pool needs room. got_bytes[p]: bytes received, -1 when
// nothing came; got_offsets[p]: where in the pool.
int scmoe_mpi_wait(int64_t id, double deadline_ms, int64_t* got_bytes, int64_t* got_offsets, double* times) {
  State& s = S();
  std::unique_lock<std::mutex> lock(s.mutex);
  auto found = s.all.find(id);
  if (found == s.all.end()) return 2;
  auto x = found->second;
  s.changed.wait_for(lock, std::chrono::duration<double, std::milli>(deadline_ms), [&] { return x->done || x->wants_room; });
  for (size_t p = 0; p < x->peers.size(); p++) {
    got_bytes[p] = x->peers[p].left == 0 ? x->peers[p].got_bytes : -1;
    got_offsets[p] = x->peers[p].got_offset;
  }
  if (!x->done) return x->wants_room ? 3 : 1;
  if (!x->error.empty()) return 2;
  times[0] = x->ready_ms;
  times[1] = x->end_ms;
  s.all.erase(found);
  return 0;
}

const char* scmoe_mpi_error(int64_t id) {
  State& s = S();
  std::lock_guard<std::mutex> lock(s.mutex);
  auto found = s.all.find(id);
  return found == s.all.end() ? "" : found->second->error.c_str();
}

// Operator in which a rank was last heard from, or "".
const char* scmoe_mpi_last_label(int rank) {
  static thread_local std::string text;
  State& s = S();
  std::lock_guard<std::mutex> lock(s.mutex);
  return (text = s.last_label[rank]).c_str();
}

// Ends the whole job; leaves even if MPI does not return.
void scmoe_mpi_abort(int code) {
  std::thread([code] { MPI_Abort(MPI_COMM_WORLD, code); }).detach();
  std::thread([code] {
    std::this_thread::sleep_for(std::chrono::seconds(2));
    _exit(code);
  }).detach();
}

// Returns 0 when all ranks have finalized, 1 when one is still busy or gone.
int scmoe_mpi_finalize(double timeout_ms) {
  State& s = S();
  if (s.wake_fd < 0) return 0;
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    s.finalizing = true;
  }
  Wake();
  std::unique_lock<std::mutex> lock(s.mutex);
  bool ok = s.changed.wait_for(lock, std::chrono::duration<double, std::milli>(timeout_ms), [&] { return s.finalized; });
  return ok ? 0 : 1;
}
}
