//! Client hellos, whole, in pieces and with something wrong in them.

/// A `ClientHello`, taken apart.
#[derive(Clone)]
pub(crate) struct Hello {
    /// Version, random, session id.
    head: Vec<u8>,
    pub(crate) suites: Vec<[u8; 2]>,
    pub(crate) extensions: Vec<(u16, Vec<u8>)>,
}

/// Extension number of the server name.
pub(crate) const SERVER_NAME: u16 = 0;
/// Extension number of padding, which means nothing (RFC 7685).
pub(crate) const PADDING: u16 = 21;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> usize {
        self.take(bytes).iter().fold(0, |n, byte| n << 8 | usize::from(*byte))
    }
}

fn number(n: usize, bytes: usize) -> Vec<u8> {
    (n as u64).to_be_bytes()[8 - bytes..].to_vec()
}

/// With its length in front.
fn sized(bytes_of_length: usize, body: &[u8]) -> Vec<u8> {
    [&number(body.len(), bytes_of_length), body].concat()
}

impl Hello {
    /// From the one record that a client sends.
    pub(crate) fn parse(record: &[u8]) -> Self {
        let mut reader = Reader(record);
        assert_eq!(reader.take(1), [22], "a handshake record");
        reader.take(2 + 2);
        assert_eq!(reader.take(1), [1], "a ClientHello");
        reader.take(3);
        let mut head = reader.take(2 + 32).to_vec();
        let session = reader.number(1);
        head.extend(sized(1, reader.take(session)));
        let length = reader.number(2);
        let suites = reader.take(length).chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
        assert_eq!(reader.number(2), 0x0100, "no compression");
        let length = reader.number(2);
        let mut reader = Reader(reader.take(length));
        let mut extensions = Vec::new();
        while !reader.0.is_empty() {
            let (kind, length) = (reader.number(2) as u16, reader.number(2));
            extensions.push((kind, reader.take(length).to_vec()));
        }
        Self { head, suites, extensions }
    }

    /// Replaces an extension, or adds it.
    pub(crate) fn set(&mut self, kind: u16, body: Vec<u8>) {
        self.extensions.retain(|(other, _)| *other != kind);
        // Not as the last one: that is where a pre-shared key would have to be.
        self.extensions.insert(0, (kind, body));
    }

    /// Asks for these names, all of them in one list.
    pub(crate) fn ask_for(&mut self, names: &[&[u8]]) {
        let list: Vec<u8> =
            names.iter().flat_map(|name| [&[0], &sized(2, name)[..]].concat()).collect();
        self.set(SERVER_NAME, sized(2, &list));
    }

    /// The handshake message.
    pub(crate) fn message(&self) -> Vec<u8> {
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(kind, body)| [number(usize::from(*kind), 2), sized(2, body)].concat())
            .collect();
        let body = [
            &self.head[..],
            &sized(2, self.suites.as_flattened()),
            &[1, 0],
            &sized(2, &extensions),
        ];
        [&[1], &sized(3, &body.concat())[..]].concat()
    }

    /// In records of so many bytes each.
    pub(crate) fn in_records(&self, of_bytes: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[22, 3, 1], &sized(2, part)[..]].concat();
        self.message().chunks(of_bytes).flat_map(record).collect()
    }

    /// In one record.
    pub(crate) fn record(&self) -> Vec<u8> {
        self.in_records(usize::from(u16::MAX))
    }
}

#[test]
fn a_hello_that_is_taken_apart_and_put_together_is_the_same() {
    let client = crate::tls::client(&crate::pki::Ca::new().pem, None, "server.zl.zlayer.internal");
    let record = crate::tls::first_words(client).1;
    let again = Hello::parse(&record);
    // The version in the record's head is the only thing that may differ.
    assert_eq!(again.record()[5..], record[5..]);
}
