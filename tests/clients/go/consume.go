package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (o *options) consuming(e *events) []kgo.Opt {
	opts := o.common(e)
	if o.isolation == "read_committed" {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if o.assign != "" {
		places := map[int32]kgo.Offset{}
		for _, text := range strings.Split(o.assign, ",") {
			part, err := strconv.ParseInt(text, 10, 32)
			if err != nil {
				usage(err)
			}
			places[int32(part)] = o.start()
		}
		return append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{o.topic: places}))
	}
	if o.group == "" {
		usage(fmt.Errorf("--group or --assign is needed"))
	}
	if o.from != "earliest" && o.from != "latest" {
		usage(fmt.Errorf("--from OFFSET and ts:MILLIS go with --assign"))
	}
	if !slices.Contains([]string{"auto", "sync", "async", "none"}, o.commit) {
		usage(fmt.Errorf("--commit is auto, sync, async or none"))
	}
	opts = append(opts,
		kgo.ConsumerGroup(o.group), kgo.ConsumeTopics(o.topics()...), kgo.ConsumeResetOffset(o.start()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			e.emit("assign", fields{"parts": o.parts(parts)})
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, parts map[string][]int32) {
			// Setting this callback takes away the library's own, which commits when it commits by itself.
			if o.commit == "sync" || o.commit == "auto" {
				o.commitSync(client, e)
			}
			e.emit("revoke", fields{"parts": o.parts(parts)})
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			e.emit("revoke", fields{"parts": o.parts(parts), "lost": true})
		}))
	if o.commit == "auto" {
		return append(opts, kgo.AutoCommitCallback(o.committed(e)))
	}
	return append(opts, kgo.DisableAutoCommit())
}

func (o *options) start() kgo.Offset {
	switch {
	case o.from == "earliest":
		return kgo.NewOffset().AtStart()
	case o.from == "latest":
		return kgo.NewOffset().AtEnd()
	}
	millis, isTime := strings.CutPrefix(o.from, "ts:")
	number, err := strconv.ParseInt(millis, 10, 64)
	if err != nil {
		usage(err)
	}
	if isTime {
		return kgo.NewOffset().AfterMilli(number)
	}
	return kgo.NewOffset().At(number)
}

func consume(o *options, e *events, stop, goOn <-chan struct{}) int {
	client, err := kgo.NewClient(o.consuming(e)...)
	if err != nil {
		usage(err)
	}
	e.emit("ready", nil)
	if o.assign != "" {
		parts := []int{}
		for _, text := range strings.Split(o.assign, ",") {
			part, _ := strconv.Atoi(text)
			parts = append(parts, part)
		}
		slices.Sort(parts)
		e.emit("assign", fields{"parts": parts})
	}

	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-stop; cancel() }()
	go func() { <-goOn; client.ResumeFetchTopics(o.topics()...) }()
	received := 0
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachError(func(topic string, part int32, err error) {
			if ctx.Err() == nil {
				e.emit("log", fields{"level": "ERRCB", "text": fmt.Sprintf("fetch of %s-%d: %v", topic, part, err)})
			}
		})
		count := 0
		fetches.EachRecord(func(record *kgo.Record) {
			count++
			e.emit("recv", fields{"pt": o.part(record.Topic, record.Partition), "o": record.Offset, "v": head(record.Value)})
		})
		if received += count; o.hold > 0 && received >= o.hold && received-count < o.hold {
			client.PauseFetchTopics(o.topics()...)
		}
		if count > 0 && o.group != "" && o.assign == "" {
			switch o.commit {
			case "sync":
				o.commitSync(client, e)
			case "async":
				client.CommitOffsets(context.Background(), client.UncommittedOffsets(), o.committed(e))
			}
		}
	}
	if o.group != "" && o.assign == "" && (o.commit == "sync" || o.commit == "async") {
		o.commitSync(client, e)
	}
	client.Close()
	e.emit("done", fields{"received": received})
	return 0
}

func (o *options) commitSync(client *kgo.Client, e *events) {
	offsets := client.UncommittedOffsets()
	if len(offsets) > 0 {
		client.CommitOffsetsSync(context.Background(), offsets, o.committed(e))
	}
}

func (o *options) committed(e *events) func(*kgo.Client, *kmsg.OffsetCommitRequest, *kmsg.OffsetCommitResponse, error) {
	return func(_ *kgo.Client, request *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
		if errors.Is(err, context.Canceled) {
			return // the client gives a commit up when the next one comes: that one has an outcome
		}
		offsets := map[string]int64{}
		for _, topic := range request.Topics {
			for _, part := range topic.Partitions {
				offsets[strconv.Itoa(int(o.part(topic.Topic, part.Partition)))] = part.Offset
			}
		}
		outcome := fields{"ok": true, "offsets": offsets}
		if err == nil && response != nil {
			for _, topic := range response.Topics {
				for _, part := range topic.Partitions {
					if part.ErrorCode != 0 {
						err = fmt.Errorf("partition %d: error code %d", part.Partition, part.ErrorCode)
					}
				}
			}
		}
		if err != nil {
			outcome["ok"], outcome["error"] = false, err.Error()
		}
		e.emit("commit", outcome)
	}
}

// The value without its padding: its first five words.
func head(value []byte) any {
	if value == nil {
		return nil
	}
	words := strings.SplitN(string(value), " ", 6)
	return strings.Join(words[:min(5, len(words))], " ")
}
