//! The schema is what `kafka-protocol` decodes: messages are written from the schema, and must come out of the decoder and
//! encoder byte for byte. Then the same messages, broken.

use bytes::Bytes;
use kafka_cutover::wire::schema::{APIS, Api, versions};
use kafka_cutover::wire::{ChainWriter, WireError, decode, encode};
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{ApiKey, BrokerId, MetadataResponse};

use super::filled::{Filled, filled};

#[derive(Clone, Copy, Debug)]
enum Half {
    Request,
    Response,
}

impl Half {
    const BOTH: [Half; 2] = [Half::Request, Half::Response];

    fn versions(self, api: &Api) -> std::ops::RangeInclusive<i16> {
        let (from, to) = match self {
            Half::Request => api.request.versions,
            Half::Response => api.response.versions,
        };
        from..=to
    }

    fn filled(self, api: &Api, version: i16) -> Filled {
        filled(if matches!(self, Half::Request) { &api.request } else { &api.response }, version)
    }

    fn decode(self, api: &Api, version: i16, body: Bytes) -> Result<(), WireError> {
        match self {
            Half::Request => decode::request(api.key, version, body).map(|_| ()),
            Half::Response => decode::response(api.key, version, body).map(|_| ()),
        }
    }

    fn again(self, api: &Api, version: i16, body: Bytes) -> Result<Bytes, WireError> {
        let mut out = ChainWriter::new();
        match self {
            Half::Request => encode::request(&decode::request(api.key, version, body)?, version, &mut out),
            Half::Response => encode::response(&decode::response(api.key, version, body)?, version, &mut out),
        }
        Ok(out.finish()?.to_bytes())
    }
}

fn each(mut test: impl FnMut(&'static Api, Half, i16)) {
    for api in APIS {
        for half in Half::BOTH {
            half.versions(api).for_each(|version| test(api, half, version));
        }
    }
}

#[test]
fn the_schema_is_what_the_codec_reads_and_writes() {
    let mut messages = 0;
    each(|api, half, version| {
        let body = Bytes::from(half.filled(api, version).body);
        let again = half.again(api, version, body.clone());
        assert_eq!(again, Ok(body), "{} {half:?} v{version}", api.name);
        messages += 1;
    });
    assert!(messages > 250, "{messages} messages");
}

#[test]
fn nothing_allocates_from_a_count_or_length_on_the_wire() {
    each(|api, half, version| {
        let whole = half.filled(api, version);
        for mark in &whole.marks {
            let lies: &[&[u8]] = match (mark.compact, mark.bytes) {
                (true, _) => &[
                    &[0xff, 0xff, 0xff, 0xff, 0x07],
                    &[0xff, 0xff, 0xff, 0xff, 0x0f],
                    &[0xff, 0xff, 0xff, 0xff, 0x1f],
                    &[0xff, 0xff, 0xff, 0xff, 0xff],
                ],
                (false, 2) => &[&[0x7f, 0xff], &[0xff, 0xfe]],
                (false, _) => &[&[0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xfe]],
            };
            for lie in lies {
                let mut body = whole.body.clone();
                body.splice(mark.at..mark.at + mark.bytes, lie.iter().copied());
                let result = half.decode(api, version, body.into());
                let found = matches!(
                    result,
                    Err(WireError::Count { .. }
                        | WireError::BadLength { .. }
                        | WireError::Truncated
                        | WireError::Varint
                        | WireError::Tag { .. }
                        | WireError::Trailing(_))
                );
                assert!(found, "{} {half:?} v{version} at {}: {result:?}", api.name, mark.at);
            }
        }
    });
}

#[test]
fn tagged_fields_are_counted_too() {
    // ApiVersions v3: no error, no APIs, no throttling, then supported features (tag 0, an array) of so many bytes.
    let answer = |content: &[u8]| {
        let mut body = vec![0, 0, 1, 0, 0, 0, 0, 1, 0, content.len() as u8];
        body.extend(content);
        decode::response(18, 3, body.into()).map(|_| ())
    };
    let feature = b"\x02f\0\0\0\x02\0";
    assert_eq!(answer(&[b"\x02", &feature[..]].concat()), Ok(()));
    assert_eq!(answer(b"\xff\xff\xff\xff\x07"), Err(WireError::Count { count: 0x7fff_fffe, bytes: 0 }));
    assert_eq!(answer(&[b"\x03", &feature[..]].concat()), Err(WireError::Count { count: 2, bytes: 7 }));
    assert_eq!(answer(&[b"\x02", &feature[..], b"\0"].concat()), Err(WireError::Trailing(1)));
    // Twice the same tag, which is an array each time.
    let twice = [0, 0, 1, 0, 0, 0, 0, 2, 0, 1, 1, 0, 1, 1];
    assert_eq!(decode::response(18, 3, twice.to_vec().into()).unwrap_err(), WireError::Tag { tag: 0 });
}

#[test]
fn a_message_cut_at_any_byte_is_an_error() {
    each(|api, half, version| {
        let whole = Bytes::from(half.filled(api, version).body);
        for end in 0..whole.len() {
            assert!(half.decode(api, version, whole.slice(..end)).is_err(), "{} {half:?} v{version} {end}", api.name);
        }
    });
}

#[test]
fn a_byte_too_many_is_an_error_in_an_answer_and_passed_over_in_a_request() {
    each(|api, half, version| {
        let mut body = half.filled(api, version).body;
        body.push(0);
        let result = half.decode(api, version, body.into());
        let expected = if matches!(half, Half::Request) { Ok(()) } else { Err(WireError::Trailing(1)) };
        assert_eq!(result, expected, "{} {half:?} v{version}", api.name);
    });
}

#[test]
fn flipped_bits_never_panic() {
    each(|api, half, version| {
        let whole = half.filled(api, version).body;
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut body = whole.clone();
                body[at] ^= flip;
                // Whether it still is a message is open; that it is answered is the test.
                let _ = half.again(api, version, body.into());
            }
        }
    });
}

#[test]
fn a_request_of_too_many_elements_is_an_error() {
    // DeleteGroups v0: an array of texts, each of two bytes.
    let of = |count: i32| {
        let mut body = count.to_be_bytes().to_vec();
        body.resize(4 + 2 * count as usize, 0);
        decode::weighed_request(42, 0, body.into()).map(|(_, elements)| elements)
    };
    assert_eq!(of(200_000), Ok(200_000));
    assert_eq!(of(200_001), Err(WireError::TooMany { limit: 200_000 }));
}

#[test]
fn the_largest_clusters_answer_is_read() {
    // As a ZooKeeper-era cluster at its limit: 200,000 partitions, three replicas each.
    let three = || (1..=3).map(BrokerId).collect::<Vec<_>>();
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_replica_nodes(three())
            .with_isr_nodes(three())
    };
    let topic = MetadataResponseTopic::default().with_partitions((0..200_000).map(partition).collect());
    let answer = MetadataResponse::default().with_topics(vec![topic]);
    let mut out = ChainWriter::new();
    encode::response(&answer.clone().into(), 9, &mut out);
    assert!(decode::response(3, 9, out.finish().unwrap().to_bytes()) == Ok(answer.into()), "all of it comes out again");
}

#[test]
fn versions_that_the_codec_lacks_are_unsupported() {
    // kafka-protocol's answers go further than its requests in these (LIBRARIES: ApiKey::valid_versions overstates).
    assert_eq!(versions(8), Some(2..=9));
    assert_eq!(versions(9), Some(1..=9));
    assert_eq!(versions(22), Some(0..=5));
    for api in APIS {
        let all = api.versions();
        for version in [all.start() - 1, i16::MIN, i16::MAX] {
            let unsupported = WireError::Unsupported { api_key: api.key, version };
            assert_eq!(decode::request(api.key, version, Bytes::new()).unwrap_err(), unsupported);
            assert_eq!(decode::response(api.key, version, Bytes::new()).unwrap_err(), unsupported);
        }
        let beyond = ApiKey::try_from(api.key).unwrap().valid_versions();
        assert!(beyond.min <= *all.start() && *all.end() <= beyond.max, "{}", api.name);
    }
    // Produce and Fetch have codecs of their own; 4 was never a client's; 77 is share groups.
    for key in [0, 1, 4, 77, -1, i16::MAX] {
        assert_eq!(
            decode::request(key, 3, Bytes::new()).unwrap_err(),
            WireError::Unsupported { api_key: key, version: 3 }
        );
    }
}

#[test]
fn the_table_is_in_the_order_of_keys() {
    let keys: Vec<_> = APIS.iter().map(|api| api.key).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
    assert_eq!(keys.len(), 49);
}
