package balance

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets travel in messages of so many at most: the kernel takes 253 with one
// (SCM_MAX_FD of unix(7)), and each receiver needs room for all of a message.
const socketsMost = 64

// headerMost bounds a message's header, in bytes.
const headerMost = 1 << 20

// handoverFormat is the version of the header.
const handoverFormat = 1

// header says which sockets come with a message.
type header struct {
	Format    int        `json:"format"`
	Frontends []Frontend `json:"frontends"` // of the message's sockets, in their order
	More      bool       `json:"more"`      // another message follows
}

// SendListeners sends sockets to another process, which receives them by
// [ReceiveListeners]. The files stay open here. Each message is the length of its
// header (4 bytes, big endian) with the descriptors, and the header as JSON.
// deadline is when to give up; zero: never.
func SendListeners(conn *net.UnixConn, all []Handover, deadline time.Time) error {
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("send %d sockets: %w", len(all), err)
	}
	for {
		n := min(len(all), socketsMost)
		if err := sendSome(conn, all[:n], n < len(all)); err != nil {
			return fmt.Errorf("send %d sockets: %w", len(all), err)
		}
		all = all[n:]
		if len(all) == 0 {
			return nil
		}
	}
}

func sendSome(conn *net.UnixConn, some []Handover, more bool) error {
	h := header{Format: handoverFormat, More: more, Frontends: make([]Frontend, len(some))}
	for i, s := range some {
		h.Frontends[i] = s.Frontend
	}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return withDescriptors(some, nil, func(fds []int) error {
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		length := binary.BigEndian.AppendUint32(nil, uint32(len(text))) //nolint:gosec // 64 frontends
		if _, _, err := conn.WriteMsgUnix(length, rights, nil); err != nil {
			return err
		}
		_, err := conn.Write(text)
		return err
	})
}

// withDescriptors calls do while the descriptors of all files are sure to stay open.
func withDescriptors(all []Handover, fds []int, do func([]int) error) error {
	if len(all) == 0 {
		return do(fds)
	}
	raw, err := all[0].File.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = raw.Control(func(fd uintptr) {
		done = withDescriptors(all[1:], append(fds, int(fd)), do)
	})
	return errors.Join(err, done)
}

// ReceiveListeners receives what another process sends by [SendListeners]; the
// caller closes the files, or has [Balancer.Adopt] do it. After an error none is
// left open. deadline is when to give up; zero: never.
func ReceiveListeners(conn *net.UnixConn, deadline time.Time) ([]Handover, error) {
	var all []Handover
	err := conn.SetReadDeadline(deadline)
	for more := true; more && err == nil; {
		var some []Handover
		some, more, err = receiveSome(conn)
		all = append(all, some...)
	}
	if err != nil {
		closeAll(all)
		return nil, fmt.Errorf("receive sockets: %w", err)
	}
	return all, nil
}

func closeAll(all []Handover) {
	for _, h := range all {
		_ = h.File.Close() // nothing was written to it
	}
}

func receiveSome(conn *net.UnixConn) (some []Handover, more bool, err error) {
	var length [4]byte
	oob := make([]byte, unix.CmsgSpace(4*socketsMost))
	n, oobn, flags, _, err := conn.ReadMsgUnix(length[:], oob)
	if err != nil {
		return nil, false, err
	}
	fds, err := descriptors(oob[:oobn])
	defer func() {
		if err != nil {
			closeDescriptors(fds)
		}
	}()
	if err != nil {
		return nil, false, err
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return nil, false, errors.New("some did not come through: raise the limit of open files")
	}
	if _, err = io.ReadFull(conn, length[n:]); err != nil {
		return nil, false, err
	}
	h, err := readHeader(conn, binary.BigEndian.Uint32(length[:]))
	if err != nil {
		return nil, false, err
	}
	if len(h.Frontends) != len(fds) {
		return nil, false, fmt.Errorf("%d came with a message that names %d", len(fds), len(h.Frontends))
	}
	for i, f := range h.Frontends {
		some = append(some, Handover{Frontend: f, File: os.NewFile(uintptr(fds[i]), f.String())})
	}
	return some, h.More, nil
}

func readHeader(from io.Reader, length uint32) (h header, err error) {
	if length > headerMost {
		return h, fmt.Errorf("a header of %d bytes: at most %d are taken", length, headerMost)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(from, text); err != nil {
		return h, err
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, fmt.Errorf("read the header: %w", err)
	}
	if h.Format != handoverFormat {
		return h, fmt.Errorf("the header is of format %d, and this program reads %d", h.Format, handoverFormat)
	}
	if h.More && len(h.Frontends) == 0 {
		return h, errors.New("a message without sockets says that more follow")
	}
	return h, nil
}

// descriptors returns those that came with a message.
func descriptors(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, m := range messages {
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fds, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

func closeDescriptors(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
