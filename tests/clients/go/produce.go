package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func (o *options) producing(e *events) []kgo.Opt {
	opts := o.common(e)
	switch o.acks {
	case "", "all":
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()))
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()))
	default:
		usage(fmt.Errorf("--acks is all, 1 or 0"))
	}
	// The library refuses fewer acks with idempotence, which is its default; Java's default gives way by itself.
	if o.idempotent == "false" || (o.idempotent == "" && (o.acks == "0" || o.acks == "1")) {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	if o.compresses != "" {
		codecs := map[string]kgo.CompressionCodec{
			"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
			"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
		}
		codec, ok := codecs[o.compresses]
		if !ok {
			usage(fmt.Errorf("--compression %s is unknown", o.compresses))
		}
		opts = append(opts, kgo.ProducerBatchCompression(codec))
	}
	if o.transactionalID != "" {
		opts = append(opts, kgo.TransactionalID(o.transactionalID))
	}
	if o.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return opts
}

func produce(o *options, e *events, stop <-chan struct{}) int {
	client, err := kgo.NewClient(o.producing(e)...)
	if err != nil {
		usage(err)
	}
	defer client.Close()
	var acked, failed atomic.Int64
	var waits longest
	var open *transactions
	if o.transactionalID != "" {
		open = &transactions{client: client, e: e, acked: &acked, number: -1}
	}
	e.emit("ready", nil)

	sent := 0
	start := time.Now()
	for o.records == 0 || sent < o.records {
		if stopped(stop, start, o.rate, sent) {
			break
		}
		seq, key, id := sent, fmt.Sprintf("k%d", sent%o.keys), fmt.Sprintf("%016x", rand.Uint64())
		sent++
		if o.logSends {
			e.emit("send", fields{"s": seq, "k": key, "id": id})
		}
		if open != nil {
			open.before(seq)
		}
		record := &kgo.Record{
			Topic: o.topic, Partition: int32(max(o.partition, 0)), Key: []byte(key), Value: value(o, seq, key, id),
		}
		since := time.Now()
		client.Produce(context.Background(), record, func(written *kgo.Record, err error) {
			if seq >= starting {
				waits.note(since)
			}
			if err != nil {
				failed.Add(1)
				e.emit("fail", fields{"s": seq, "k": key, "id": id, "error": err.Error()})
				return
			}
			offset := written.Offset
			if o.acks == "0" {
				offset = -1
			}
			ack := fields{"s": seq, "k": key, "id": id, "pt": written.Partition, "o": offset}
			if open != nil {
				open.keep(ack)
				return
			}
			acked.Add(1)
			e.emit("ack", ack)
		})
	}
	client.Flush(context.Background())
	said := fmt.Sprintf("%s: the longest wait for a record %d ms", o.name, waits.ms())
	if open != nil {
		open.end()
		said += fmt.Sprintf(", for an end %d ms", open.ends.ms())
	}
	fmt.Fprintln(os.Stderr, said)
	e.emit("done", fields{"sent": sent, "acked": acked.Load(), "failed": failed.Load()})
	return 0
}

// So many records are those of a producer that starts: it looks for its cluster first.
const starting = 2 * recordsOfOne

// The longest of many waits.
type longest struct{ nanos atomic.Int64 }

func (l *longest) note(since time.Time) {
	took := int64(time.Since(since))
	for before := l.nanos.Load(); took > before && !l.nanos.CompareAndSwap(before, took); before = l.nanos.Load() {
	}
}

func (l *longest) ms() int64 { return l.nanos.Load() / int64(time.Millisecond) }

// Waits until record seq is due; says whether the wish to stop came first.
func stopped(stop <-chan struct{}, start time.Time, rate float64, seq int) bool {
	wait := time.Duration(0)
	if rate > 0 {
		wait = time.Until(start.Add(time.Duration(float64(seq) / rate * float64(time.Second))))
	}
	if wait > 0 {
		select {
		case <-stop:
			return true
		case <-time.After(wait):
			return false
		}
	}
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

func value(o *options, seq int, key, id string) []byte {
	head := fmt.Sprintf("kc1 %s %d %s %s", o.name, seq, key, id)
	if padding := o.size - len(head) - 1; padding > 0 {
		head += " " + strings.Repeat("x", padding)
	}
	return []byte(head)
}
