package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	recordsOfOne = 20
	aborts       = 4
)

// Every 20 records are a transaction, and every fourth of these is aborted. Acknowledged is what is committed.
type transactions struct {
	client *kgo.Client
	e      *events
	acked  *atomic.Int64
	number int
	ends   longest

	lock    sync.Mutex
	written []fields
}

func (t *transactions) before(seq int) {
	if seq/recordsOfOne == t.number {
		return
	}
	t.end()
	if err := t.client.BeginTransaction(); err != nil {
		t.e.emit("log", fields{"level": "ERRCB", "text": "begin: " + err.Error()})
	}
	t.number = seq / recordsOfOne
}

func (t *transactions) keep(ack fields) {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.written = append(t.written, ack)
}

// Ends the one that is open. What is aborted is in the log by then.
func (t *transactions) end() {
	if t.number < 0 {
		return
	}
	t.client.Flush(context.Background())
	commits := t.number%aborts != aborts-1
	since := time.Now()
	err := t.client.EndTransaction(context.Background(), kgo.TransactionEndTry(commits))
	if t.number*recordsOfOne >= starting {
		t.ends.note(since)
	}
	if err != nil {
		t.e.emit("log", fields{"level": "ERRCB", "text": "end: " + err.Error()})
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	for _, ack := range t.written {
		if commits && err == nil {
			t.acked.Add(1)
			t.e.emit("ack", ack)
		}
	}
	t.written, t.number = nil, -1
}
