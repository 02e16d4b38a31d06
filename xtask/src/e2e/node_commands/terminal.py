# A person at a terminal: runs the command given, types, and looks at what comes.
import fcntl, os, pty, select, struct, sys, termios, time

pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])

def size(rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

seen = b""
def wait_for(text, limit=60):
    global seen
    end = time.time() + limit
    while text not in seen:
        ready = select.select([terminal], [], [], max(0, end - time.time()))[0]
        try:
            more = os.read(terminal, 4096) if ready else b""
        except OSError:
            more = b""
        if not more:
            sys.exit("no %r in %r" % (text, seen))
        seen += more
    seen = seen[seen.index(text) + len(text):]

def type_in(text):
    os.write(terminal, text)

size(31, 97)
# What is typed is echoed, too: the answers differ from it.
type_in(b"echo size-$(stty size | tr ' ' x)-; tty\n")
wait_for(b"size-31x97-")
wait_for(b"/dev/pts/")
size(44, 120)
time.sleep(1)
type_in(b"echo again-$(stty size | tr ' ' x)-\n")
wait_for(b"again-44x120-")
type_in(b"echo be$((1+1))gun; sleep 1000\n")
wait_for(b"be2gun")
time.sleep(0.5)
type_in(b"\x03")
type_in(b"echo al$((1+2))ive\n")
wait_for(b"al3ive")
type_in(b"exit 7\n")
while True:
    try:
        if not os.read(terminal, 4096):
            break
    except OSError:
        break
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print("31x97, 44x120, exit code", code)
sys.exit(0 if code == 7 else 1)
