package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Events of one client as lines of JSON on stdout, in order, at most 50 ms late.
type events struct {
	client string
	*lines
}

// Those of all clients of this process.
type lines struct {
	lock   sync.Mutex
	out    *bufio.Writer
	began  time.Time
	offset float64
}

type fields map[string]any

func newEvents(client string) *events {
	e := &events{client, &lines{out: bufio.NewWriterSize(os.Stdout, 1<<16), began: time.Now(), offset: monotonic()}}
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			e.flush()
		}
	}()
	return e
}

func (e *events) of(client string) *events { return &events{client, e.lines} }

// CLOCK_MONOTONIC, which Go keeps to itself: one clock for all drivers of a machine.
func monotonic() float64 {
	var ts syscall.Timespec
	const clockMonotonic = 1
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return float64(ts.Sec) + float64(ts.Nsec)/1e9
}

func (e *events) emit(event string, more fields) {
	rest := []byte("}")
	if len(more) > 0 {
		encoded, err := json.Marshal(more)
		if err != nil {
			panic(err) // fields are numbers, booleans, texts and lists of them
		}
		encoded[0] = ','
		rest = encoded
	}
	name, _ := json.Marshal(e.client)
	e.lock.Lock()
	defer e.lock.Unlock()
	now := e.offset + time.Since(e.began).Seconds()
	fmt.Fprintf(e.out, `{"t":%.6f,"e":"%s","c":%s%s`, now, event, name, rest)
	e.out.WriteByte('\n')
}

func (e *lines) flush() {
	e.lock.Lock()
	defer e.lock.Unlock()
	if e.out.Flush() != nil {
		os.Exit(1) // nobody reads any more
	}
}

// The library's own log, at WARN or above.
type logger struct{ *events }

func (logger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (l logger) Log(level kgo.LogLevel, text string, pairs ...any) {
	for i := 0; i+1 < len(pairs); i += 2 {
		text += fmt.Sprintf("; %v: %v", pairs[i], pairs[i+1])
	}
	l.emit("log", fields{"level": strings.ToUpper(level.String()), "text": text})
}

// The wish to stop: closed by a line `stop`, by the end of stdin, or by SIGTERM. And the wish to go on: by a line `go`.
func wishes() (stopped, goneOn <-chan struct{}) {
	wish, goOn := make(chan struct{}), make(chan struct{})
	var once, onceOn sync.Once
	stop := func() { once.Do(func() { close(wish) }) }
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	go func() { <-terms; stop() }()
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() && strings.TrimSpace(lines.Text()) != "stop" {
			if strings.TrimSpace(lines.Text()) == "go" {
				onceOn.Do(func() { close(goOn) })
			}
		}
		stop()
	}()
	return wish, goOn
}
