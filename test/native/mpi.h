// The part of MPI that native/mpi uses, between ranks that are threads of one program (fake_mpi.cc). Found instead of MPI's
// own header where this folder comes first.
#pragma once

#include <cstddef>

struct FakeComm;
struct FakeRequest;
using MPI_Comm = FakeComm*;
using MPI_Request = FakeRequest*;
using MPI_Datatype = int;
using MPI_Errhandler = int;
using MPI_Info = int;
struct MPI_Status {
  int MPI_SOURCE, MPI_TAG, MPI_ERROR;
};

extern FakeComm* const MPI_COMM_WORLD;
constexpr std::nullptr_t MPI_COMM_NULL = nullptr;
constexpr std::nullptr_t MPI_REQUEST_NULL = nullptr;
constexpr MPI_Datatype MPI_BYTE = 1;
constexpr MPI_Errhandler MPI_ERRORS_RETURN = 1;
constexpr MPI_Info MPI_INFO_NULL = 0;
constexpr int MPI_THREAD_FUNNELED = 1;
constexpr int MPI_COMM_TYPE_SHARED = 1;
constexpr int MPI_MAX_ERROR_STRING = 64;
constexpr int MPI_UNDEFINED = -32766;
constexpr int MPI_SUCCESS = 0, MPI_ERR_OTHER = 1, MPI_ERR_TRUNCATE = 2, MPI_ERR_IN_STATUS = 3;

int MPI_Init_thread(int* argc, char*** argv, int required, int* provided);
int MPI_Finalize();
int MPI_Abort(MPI_Comm comm, int code);
int MPI_Error_string(int code, char* text, int* length);
int MPI_Comm_rank(MPI_Comm comm, int* rank);
int MPI_Comm_size(MPI_Comm comm, int* size);
int MPI_Comm_dup(MPI_Comm comm, MPI_Comm* copy);
int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm* part);
int MPI_Comm_set_errhandler(MPI_Comm comm, MPI_Errhandler handler);
int MPI_Comm_free(MPI_Comm* comm);
int MPI_Isend(const void* from, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request* request);
int MPI_Irecv(void* into, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request* request);
int MPI_Testsome(int count, MPI_Request* requests, int* num_done, int* indices, MPI_Status* statuses);
