/* The floor of the Python bindings: an extension that submits prepared bytes, reads the queue and resolves futures, and
 * nothing else. What a client costs above it is what it does for its users. Only the benchmarks have it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <llmpool.h>

static llmpool_t *pool;
static llmpool_queue_t *queue;
static llmpool_request_t request = {.size = sizeof request, .method = "POST"};

static PyObject *refuse(const char *what) {
  return PyErr_Format(PyExc_RuntimeError, "%s: %s", what, llmpool_last_error());
}

/* open(url, header lines, CA file or None): the descriptor of the queue. What it is given has to last. */
static PyObject *floor_open(PyObject *module, PyObject *args) {
  llmpool_options_t options;
  llmpool_options_init(&options, sizeof options);
  options.max_connections = options.max_keepalive_connections = 200;
  llmpool_queue_options_t hold = {.size = sizeof hold, .flags = LLMPOOL_QUEUE_DRIVE};
  if (!PyArg_ParseTuple(args, "ssz", &request.url, &request.headers, &options.ca_file)) return NULL;
  request.headers_size = strlen(request.headers);
  if (llmpool_open(&options, &pool) || llmpool_queue_open(&hold, &queue)) return refuse("open");
  return PyLong_FromLong(llmpool_queue_fd(queue));
}

/* submit(body, future) */
static PyObject *floor_submit(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  uint64_t id;
  request.body = PyBytes_AS_STRING(args[0]);
  request.body_size = (size_t)PyBytes_GET_SIZE(args[0]);
  request.user_data = (uint64_t)(uintptr_t)args[1];
  if (llmpool_submit(pool, &request, queue, &id)) return refuse("submit");
  Py_INCREF(args[1]);
  Py_RETURN_NONE;
}

/* read(): gives each future the body of its answer. */
static PyObject *floor_read(PyObject *module, PyObject *unused) {
  static llmpool_event_t events[256];
  int32_t count = llmpool_queue_drain(queue, events, sizeof *events, 256, 0);
  for (int32_t i = 0; i < count; i++) {
    PyObject *future = (PyObject *)(uintptr_t)events[i].user_data;
    PyObject *body = PyBytes_FromStringAndSize(events[i].data, (Py_ssize_t)events[i].data_size);
    PyObject *done = PyObject_CallMethod(future, events[i].http_status == 200 ? "set_result" : "cancel", "N", body);
    Py_XDECREF(done);
    Py_DECREF(future);
  }
  if (count > 0) llmpool_events_release(events, sizeof *events, (uint32_t)count);
  return PyErr_Occurred() ? NULL : PyLong_FromLong(count);
}

/* perform(body): the body of the answer. */
static PyObject *floor_perform(PyObject *module, PyObject *body) {
  llmpool_event_t event;
  request.body = PyBytes_AS_STRING(body);
  request.body_size = (size_t)PyBytes_GET_SIZE(body);
  llmpool_status_t status;
  Py_BEGIN_ALLOW_THREADS
  status = llmpool_perform(pool, &request, &event, sizeof event, NULL);
  Py_END_ALLOW_THREADS
  if (status || event.http_status != 200) return refuse("perform");
  PyObject *answer = PyBytes_FromStringAndSize(event.data, (Py_ssize_t)event.data_size);
  llmpool_events_release(&event, sizeof event, 1);
  return answer;
}

static PyMethodDef methods[] = {
    {"open", floor_open, METH_VARARGS, NULL},
    {"submit", (PyCFunction)(void (*)(void))floor_submit, METH_FASTCALL, NULL},
    {"read", floor_read, METH_NOARGS, NULL},
    {"perform", floor_perform, METH_O, NULL},
    {NULL, NULL, 0, NULL}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "llmpool_floor", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_llmpool_floor(void) {
  return PyModule_Create(&module);
}
