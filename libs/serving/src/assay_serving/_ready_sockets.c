/* The compiled counterpart of assay_serving.ready_sockets.PythonReadySockets; the contract is
 * that of ReadySockets there.
 *
 * Most of what a token costs its reader is finding code and data again after waking up for it. So all sockets
 * of one wake-up are polled and read here, in one call, and Python is called for a stream only when it holds
 * several events or something else than an event has come.
 *
 * Nothing here calls back into Python while sockets are read; what is held of a socket is found by its
 * descriptor each time, so that no pointer to it outlives a call.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES 65536
#define MOST_SOCKETS 512    /* of one call; the others are taken at the next */
#define MOST_EVENTS 8       /* of one stream that are held */
#define MOST_SIZE_DIGITS 8  /* of a chunk; longer ones are left to the parser */
#define MOST_DESCRIPTOR (1 << 24)
#define SO_TIMESTAMPNS_NUMBER 35 /* with a timespec of two longs, which is what http_connection asks for */

typedef struct {
    PyObject *data; /* the field of an event, or what came */
    int64_t kernel_ns, read_ns;
    bool is_event;
} Read;

typedef struct {
    int64_t offset_ns; /* from the kernel's clock to the monotonic one */
    int error;         /* of the read that ended the holding; 0: none */
    int count, limit;
    bool is_held;
    Read reads[MOST_EVENTS];
} Socket;

typedef struct {
    PyObject_HEAD
    int epoll;
    int capacity;
    Socket **sockets; /* by descriptor; NULL where there is none */
    char buffer[READ_BYTES];
} ReadySockets;

typedef struct {
    const char *begin;
    Py_ssize_t length;
} Span;

static int64_t nanoseconds(int64_t seconds, int64_t rest) { return seconds * 1000000000 + rest; }

static void forget_reads(Socket *socket) {
    for (int i = 0; i < socket->count; i++) {
        Py_CLEAR(socket->reads[i].data);
    }
    socket->count = 0;
    socket->error = 0;
}

/* NULL and a Python error where `descriptor` was not added. */
static Socket *find(ReadySockets *self, int descriptor) {
    if (descriptor < 0 || descriptor >= self->capacity || self->sockets[descriptor] == NULL) {
        PyErr_Format(PyExc_KeyError, "descriptor %d was not added", descriptor);
        return NULL;
    }
    return self->sockets[descriptor];
}

/* -1 and a Python error where it is no number of a descriptor. */
static int descriptor_of(PyObject *argument) {
    long value = PyLong_AsLong(argument);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (value < 0 || value > MOST_DESCRIPTOR) {
        PyErr_Format(PyExc_ValueError, "descriptor: %ld is none of an open socket", value);
        return -1;
    }
    return (int)value;
}

static bool is_open(ReadySockets *self) {
    if (self->epoll < 0) {
        PyErr_SetString(PyExc_ValueError, "the sockets are closed");
        return false;
    }
    return true;
}

/* Hexadecimal digits and nothing else, then a line's end. Returns where the content begins; 0: not so. */
static Py_ssize_t chunk_begin(const char *data, Py_ssize_t length, Py_ssize_t *size) {
    Py_ssize_t digits = 0, value = 0;
    for (; digits < length && digits < MOST_SIZE_DIGITS; digits++) {
        char c = data[digits];
        if (c >= '0' && c <= '9') {
            value = value * 16 + (c - '0');
        } else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) {
            value = value * 16 + ((c | 0x20) - 'a' + 10);
        } else {
            break;
        }
    }
    if (digits == 0 || length - digits < 2 || data[digits] != '\r' || data[digits + 1] != '\n') {
        return 0;
    }
    *size = value;
    return digits + 2;
}

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Whether `data` is one whole chunk that holds one event of one line; its field is stored in `event`. */
static bool lone_event(const char *data, Py_ssize_t length, Span *event) {
    Py_ssize_t size = 0, begin = chunk_begin(data, length, &size);
    /* The content is not shorter than its beginning and its end together. */
    if (begin == 0 || size != length - begin - 2 || size < 7) {
        return false;
    }
    const char *content = data + begin, *end = content + size - 2;
    if (memcmp(content, "data:", 5) != 0 || memcmp(end, "\n\n\r\n", 4) != 0) {
        return false;
    }
    content += 5;
    if (memchr(content, '\n', (size_t)(end - content)) != NULL) {
        return false;
    }
    while (content < end && is_blank(*content)) {
        content++;
    }
    while (end > content && is_blank(end[-1])) {
        end--;
    }
    event->begin = content;
    event->length = end - content;
    return true;
}

/* The kernel's note of when the bytes came, on its own clock; false where it made none. */
static bool kernel_stamp(struct msghdr *message, int64_t *stamp_ns) {
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
        long stamp[2];
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SO_TIMESTAMPNS_NUMBER &&
            part->cmsg_len >= CMSG_LEN(sizeof stamp)) {
            memcpy(stamp, CMSG_DATA(part), sizeof stamp);
            *stamp_ns = nanoseconds(stamp[0], stamp[1]);
            return true;
        }
    }
    return false;
}

/* Reads a held socket once. Returns 1 where its reader is to be called, 0 where not, -1 and a Python error. */
static int read_held(ReadySockets *self, int descriptor, Socket *socket) {
    if (socket->error != 0 || socket->count == MOST_EVENTS) {
        return 1; /* they were not taken */
    }
    union {
        struct cmsghdr aligned;
        char bytes[64];
    } control;
    struct iovec into = {.iov_base = self->buffer, .iov_len = READ_BYTES};
    struct msghdr message = {
        .msg_iov = &into, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t length;
    do {
        length = recvmsg(descriptor, &message, 0);
    } while (length < 0 && errno == EINTR);
    if (length < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return 0;
        }
        socket->error = errno;
        socket->is_held = false;
        return 1;
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t stamp_ns = 0;
    bool is_stamped = kernel_stamp(&message, &stamp_ns);
    Span span;
    bool is_event = is_stamped && lone_event(self->buffer, length, &span);
    if (!is_event) {
        span.begin = self->buffer;
        span.length = length;
        socket->is_held = false;
    }
    PyObject *data = PyBytes_FromStringAndSize(span.begin, span.length);
    if (data == NULL) {
        return -1;
    }
    socket->reads[socket->count++] = (Read){
        .data = data,
        .kernel_ns = is_stamped ? stamp_ns + socket->offset_ns : 0,
        .read_ns = nanoseconds(now.tv_sec, now.tv_nsec),
        .is_event = is_event,
    };
    return !is_event || socket->count >= socket->limit;
}

static PyObject *poll_sockets(ReadySockets *self, PyObject *Py_UNUSED(none)) {
    if (!is_open(self)) {
        return NULL;
    }
    struct epoll_event ready[MOST_SOCKETS];
    int due[MOST_SOCKETS], due_count = 0;
    int found = epoll_wait(self->epoll, ready, MOST_SOCKETS, 0);
    if (found < 0 && errno == EINTR) {
        found = 0;
    }
    if (found < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    for (int i = 0; i < found; i++) {
        int descriptor = ready[i].data.fd;
        Socket *socket = find(self, descriptor);
        if (socket == NULL) {
            return NULL;
        }
        int is_due = socket->is_held ? read_held(self, descriptor, socket) : 1;
        if (is_due < 0) {
            return NULL;
        }
        if (is_due) {
            due[due_count++] = descriptor;
        }
    }
    PyObject *list = PyList_New(due_count);
    if (list == NULL) {
        return NULL;
    }
    for (int i = 0; i < due_count; i++) {
        PyObject *number = PyLong_FromLong(due[i]);
        if (number == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, i, number);
    }
    return Py_BuildValue("(iN)", found, list);
}

static PyObject *add_socket(ReadySockets *self, PyObject *argument) {
    int descriptor = PyObject_AsFileDescriptor(argument);
    if (descriptor < 0 || !is_open(self)) {
        return NULL;
    }
    if (descriptor > MOST_DESCRIPTOR) {
        return PyErr_Format(PyExc_ValueError, "descriptor: %d is too large", descriptor);
    }
    if (descriptor >= self->capacity) {
        int capacity = 2 * (descriptor + 1);
        Socket **sockets = PyMem_Resize(self->sockets, Socket *, capacity);
        if (sockets == NULL) {
            return PyErr_NoMemory();
        }
        memset(sockets + self->capacity, 0, sizeof *sockets * (size_t)(capacity - self->capacity));
        self->sockets = sockets;
        self->capacity = capacity;
    }
    Socket *socket = self->sockets[descriptor];
    if (socket == NULL) {
        socket = PyMem_Calloc(1, sizeof *socket);
        if (socket == NULL) {
            return PyErr_NoMemory();
        }
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, descriptor, &event) < 0) {
        int error = errno;
        if (self->sockets[descriptor] == NULL) {
            PyMem_Free(socket);
        }
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    self->sockets[descriptor] = socket;
    Py_RETURN_NONE;
}

static PyObject *remove_socket(ReadySockets *self, PyObject *argument) {
    int descriptor = descriptor_of(argument);
    if (descriptor < 0 || !is_open(self)) {
        return NULL;
    }
    Socket *socket = find(self, descriptor);
    if (socket == NULL) {
        return NULL;
    }
    self->sockets[descriptor] = NULL;
    forget_reads(socket);
    PyMem_Free(socket);
    if (epoll_ctl(self->epoll, EPOLL_CTL_DEL, descriptor, NULL) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *hold(ReadySockets *self, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"descriptor", "first", "realtime_to_mono_ns", NULL};
    int descriptor, first;
    long long offset_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "i$iL:hold", names, &descriptor, &first,
                                     &offset_ns)) {
        return NULL;
    }
    Socket *socket = find(self, descriptor);
    if (socket == NULL) {
        return NULL;
    }
    if (first < 1 || first > MOST_EVENTS) {
        return PyErr_Format(PyExc_ValueError, "first: %d is not between 1 and %d", first, MOST_EVENTS);
    }
    socket->offset_ns = offset_ns;
    socket->limit = first;
    socket->is_held = true;
    Py_RETURN_NONE;
}

static PyObject *take(ReadySockets *self, PyObject *argument) {
    int descriptor = descriptor_of(argument);
    if (descriptor < 0) {
        return NULL;
    }
    Socket *socket = find(self, descriptor);
    if (socket == NULL) {
        return NULL;
    }
    /* Making objects may run a collection, and that somebody's code: take everything out first. */
    Socket taken = *socket;
    socket->count = 0;
    socket->error = 0;
    socket->limit = MOST_EVENTS;
    PyObject *list = PyList_New(taken.count);
    for (int i = 0; i < taken.count && list != NULL; i++) {
        Read *one = &taken.reads[i];
        PyObject *item = Py_BuildValue("(OLLO)", one->data, (long long)one->kernel_ns, (long long)one->read_ns,
                                       one->is_event ? Py_True : Py_False);
        if (item == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, i, item);
        }
    }
    int error = taken.error;
    forget_reads(&taken);
    return list == NULL ? NULL : Py_BuildValue("(Ni)", list, error);
}

static PyObject *file_number(ReadySockets *self, PyObject *Py_UNUSED(none)) {
    return is_open(self) ? PyLong_FromLong(self->epoll) : NULL;
}

static void release_all(ReadySockets *self) {
    for (int i = 0; i < self->capacity; i++) {
        if (self->sockets[i] != NULL) {
            forget_reads(self->sockets[i]);
            PyMem_Free(self->sockets[i]);
        }
    }
    PyMem_Free(self->sockets);
    self->sockets = NULL;
    self->capacity = 0;
    if (self->epoll >= 0) {
        close(self->epoll);
        self->epoll = -1;
    }
}

static PyObject *close_sockets(ReadySockets *self, PyObject *Py_UNUSED(none)) {
    release_all(self);
    Py_RETURN_NONE;
}

static PyObject *new_sockets(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    if (!PyArg_ParseTuple(arguments, ":ReadySockets") || (keywords != NULL && PyDict_GET_SIZE(keywords))) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "ReadySockets takes no arguments");
    }
    ReadySockets *self = (ReadySockets *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void dealloc(ReadySockets *self) {
    PyTypeObject *type = Py_TYPE(self);
    release_all(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"fileno", (PyCFunction)file_number, METH_NOARGS, "The descriptor that is readable when a socket is."},
    {"add", (PyCFunction)add_socket, METH_O, "Poll this socket too."},
    {"remove", (PyCFunction)remove_socket, METH_O, "Forget this descriptor, and what is held of it."},
    {"hold", (PyCFunction)(void (*)(void))hold, METH_VARARGS | METH_KEYWORDS, "Read this descriptor here."},
    {"take", (PyCFunction)take, METH_O, "What is held of this descriptor, and the error that ended it."},
    {"poll", (PyCFunction)poll_sockets, METH_NOARGS, "Read what is held; how many were ready, and who is due."},
    {"close", (PyCFunction)close_sockets, METH_NOARGS, "Forget everything."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Sockets that are polled and, while they are held, read together."},
    {Py_tp_new, new_sockets},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec specification = {
    .name = "assay_serving._ready_sockets.ReadySockets",
    .basicsize = sizeof(ReadySockets),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static int execute(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &specification, NULL);
    if (type == NULL) {
        return -1;
    }
    int result = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return result;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_ready_sockets",
    .m_doc = "Reads many sockets at one wake-up.",
    .m_size = 0,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__ready_sockets(void) { return PyModuleDef_Init(&definition); }
