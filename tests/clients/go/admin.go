package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// How long a broker may take to hear of what another one was told.
const hearsay = 30 * time.Second

// For each line `round` on stdin, all that an administrator does with a topic and a group, an event for each answer.
type administrator struct {
	*options
	*events
	admin *kadm.Client
	round int
}

func administer(o *options, e *events) int {
	client, err := kgo.NewClient(o.common(e)...)
	if err != nil {
		usage(err)
	}
	defer client.Close()
	a := &administrator{o, e, kadm.NewClient(client), 0}
	e.emit("ready", nil)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() && strings.TrimSpace(lines.Text()) == "round" {
		a.round++
		a.oneRound(context.Background())
	}
	return 0
}

func (a *administrator) ask(question string, answer any, err error) {
	outcome := fields{"round": a.round, "q": question, "v": answer}
	if err != nil {
		outcome = fields{"round": a.round, "q": question, "error": err.Error()}
	}
	a.emit("answer", outcome)
}

func (a *administrator) oneRound(ctx context.Context) {
	prefix := a.topic + "-" + a.name + "-"
	own := fmt.Sprintf("%s%d", prefix, a.round)
	text := func(value string) *string { return &value }
	at := func(offset int64) kadm.Offsets {
		offsets := kadm.Offsets{}
		offsets.AddOffset(own, 0, offset, -1)
		return offsets
	}
	mine := func(names []string) []string {
		found := []string{}
		for _, name := range names {
			if strings.HasPrefix(name, prefix) {
				found = append(found, name)
			}
		}
		return found
	}

	metadata, err := a.admin.BrokerMetadata(ctx)
	nodes := []string{}
	for _, node := range metadata.Brokers {
		nodes = append(nodes, fmt.Sprintf("%s:%d", node.Host, node.Port))
	}
	a.ask("describe-cluster", fields{"id": metadata.Cluster, "nodes": nodes}, err)
	a.askPartitions(ctx, "moving-partitions", a.topic)
	a.askOffsets(ctx, "moving-offsets", a.topic)
	described, err := a.admin.DescribeGroups(ctx, a.group)
	if err == nil {
		err = described.Error()
	}
	a.ask("moving-group", len(described[a.group].Members), err)

	_, err = a.admin.CreateTopic(ctx, 1, 1, nil, own)
	a.ask("create-topic", nil, err)
	a.askPartitions(ctx, "partitions", own)
	more, err := a.admin.CreatePartitions(ctx, 1, own)
	if err == nil {
		err = more.Error()
	}
	a.ask("create-partitions", nil, err)
	a.askPartitions(ctx, "more-partitions", own)
	altered, err := a.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: text("3600000")}}, own)
	if err == nil {
		_, err = altered.On(own, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	a.ask("alter-config", nil, err)
	// A broker other than the one that was told may not have heard of it yet, nor of the topic itself: on plain Kafka, too.
	value, err := a.config(ctx, own, "retention.ms")
	for until := time.Now().Add(hearsay); value != "3600000" && time.Now().Before(until); {
		time.Sleep(50 * time.Millisecond)
		value, err = a.config(ctx, own, "retention.ms")
	}
	a.ask("describe-config", value, err)
	a.ask("produce", nil, a.produce(ctx, own))
	a.askOffsets(ctx, "offsets", own)
	deleted, err := a.admin.DeleteRecords(ctx, at(2))
	if err == nil {
		err = deleted.Error()
	}
	low, _ := deleted.Lookup(own, 0)
	a.ask("delete-records", low.LowWatermark, err)
	a.askOffsets(ctx, "offsets-left", own)

	a.ask("commit", nil, a.admin.CommitAllOffsets(ctx, own, at(3)))
	groups, err := a.admin.ListGroups(ctx)
	a.ask("groups", mine(groups.Groups()), err)
	committed, err := a.admin.FetchOffsets(ctx, own)
	offset, _ := committed.Lookup(own, 0)
	a.ask("committed", offset.At, err)
	gone, err := a.admin.DeleteGroup(ctx, own)
	if err == nil {
		err = gone.Err
	}
	a.ask("delete-group", nil, err)
	_, err = a.admin.DeleteTopic(ctx, own)
	a.ask("delete-topic", nil, err)
	// The library answers from a cache of some seconds, in which topics outlive their end.
	there, err := a.topics(ctx)
	for until := time.Now().Add(hearsay); len(mine(there)) > 0 && time.Now().Before(until); {
		time.Sleep(50 * time.Millisecond)
		there, err = a.topics(ctx)
	}
	a.ask("topics", mine(there), err)
	a.ask("end", nil, nil)
}

// Those that are there: the library lists those, too, that it was told are not.
func (a *administrator) topics(ctx context.Context) ([]string, error) {
	topics, err := a.admin.ListTopics(ctx)
	there := []string{}
	for name, topic := range topics {
		if topic.Err == nil {
			there = append(there, name)
		}
	}
	return there, err
}

// By a client of its own: one that has produced to a topic asks for it, and lists it, also when it is deleted.
func (a *administrator) produce(ctx context.Context, topic string) error {
	opts := append(a.common(a.events), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(-1))
	producer, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer producer.Close()
	record := func() *kgo.Record { return &kgo.Record{Topic: topic, Partition: 0, Value: []byte("x")} }
	return producer.ProduceSync(ctx, record(), record(), record()).FirstErr()
}

func (a *administrator) config(ctx context.Context, topic, key string) (string, error) {
	configs, err := a.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return "", err
	}
	resource, err := configs.On(topic, nil)
	if err == nil {
		err = resource.Err
	}
	for _, config := range resource.Configs {
		if config.Key == key {
			return config.MaybeValue(), err
		}
	}
	return "", err
}

func (a *administrator) askPartitions(ctx context.Context, question, topic string) {
	topics, err := a.admin.ListTopics(ctx, topic)
	if err == nil {
		err = topics.Error()
	}
	a.ask(question, len(topics[topic].Partitions), err)
}

// Added up over the topic's partitions.
func (a *administrator) askOffsets(ctx context.Context, question, topic string) {
	total := func(listed kadm.ListedOffsets, failed error) (sum int64, err error) {
		if err = failed; err == nil {
			err = listed.Error()
		}
		listed.Each(func(offset kadm.ListedOffset) { sum += offset.Offset })
		return sum, err
	}
	earliest, err := total(a.admin.ListStartOffsets(ctx, topic))
	latest, later := total(a.admin.ListEndOffsets(ctx, topic))
	if err == nil {
		err = later
	}
	a.ask(question, fields{"earliest": earliest, "latest": latest}, err)
}
