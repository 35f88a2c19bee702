import NormFoldFormats
import Testing

/// A text and what the parser makes of it, written back in a canonical form.
struct JSONCase: CustomTestStringConvertible {
  let testDescription: String
  let bytes: [UInt8]
  let verdict: Verdict

  init(_ name: String, _ bytes: [UInt8], _ verdict: Verdict) {
    testDescription = name
    self.bytes = bytes
    self.verdict = verdict
  }

  init(_ name: String, _ text: String, _ verdict: Verdict) { self.init(name, Array(text.utf8), verdict) }

  static let values: [JSONCase] = [
    .init("null", "null", .accepted("null")),
    .init("true and false", "[true,false]", .accepted("[true false]")),
    .init("white space everywhere", " \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\" : { } } \n", .accepted("{a@6 [1 2] b@24 {}}")),
    .init(
      "numbers keep their spelling", "[0,-0,1e12,1000000000000,1000000000000.0,-1.5E-7,1e+400]",
      .accepted("[0 -0 1e12 1000000000000 1000000000000.0 -1.5E-7 1e+400]")),
    .init("number alone", "17", .accepted("17")),
    .init(
      "escapes", #"["\"\\\/\b\f\n\r\t\u0041\u00e9\u65E5"]"#, .accepted("[<\"\\/\\u{8}\\u{c}\\u{a}\\u{d}\\u{9}Aé日>]")),
    .init("surrogate pair", #"["\ud83d\ude00"]"#, .accepted("[<😀>]")),
    .init("escaped NUL", #"["\u0000"]"#, .accepted("[<\\u{0}>]")),
    .init("DEL and U+FFFF", Array("[\"\u{7F}\u{FFFF}\"]".utf8), .accepted("[<\\u{7f}￿>]")),
    .init("keys that Swift holds for equal", "{\"é\":1,\"e\u{301}\":2}", .accepted("{é@1 1 é@8 2}")),
    .init("keys that differ in case", "{\"a\":1,\"A\":2}", .accepted("{a@1 1 A@7 2}")),
    .init("order of keys", "{\"b\":1,\"a\":2,\"c\":3}", .accepted("{b@1 1 a@7 2 c@13 3}")),
    .init(
      "32 arrays", String(repeating: "[", count: 32) + String(repeating: "]", count: 32),
      .accepted("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]")),
  ]

  static let defects: [JSONCase] = [
    .init("empty", "", .refused("f.json at byte 0: not valid JSON: expected a value, found the end of the text")),
    .init(
      "white space only", " \n",
      .refused("f.json at byte 2: not valid JSON: expected a value, found the end of the text")),
    .init(
      "33 arrays", String(repeating: "[", count: 33) + String(repeating: "]", count: 33),
      .refused("f.json at byte 32: the JSON is nested deeper than 32 levels")),
    .init(
      "a million arrays", String(repeating: "[", count: 1_000_000),
      .refused("f.json at byte 32: the JSON is nested deeper than 32 levels")),
    .init(
      "a million objects", String(repeating: "{\"a\":", count: 1_000_000),
      .refused("f.json at byte 160: the JSON is nested deeper than 32 levels")),
    .init(
      "byte order mark", "\u{FEFF}{}",
      .refused("f.json at byte 0: the JSON starts with a byte order mark; save it as UTF-8 without one")),
    .init("UTF-16", [0x7B, 0, 0x7D, 0], .refused("f.json at byte 1: not valid JSON: expected a key, found byte 0x0")),
    .init(
      "duplicate key", "{\"a\":1,\"b\":2,\"a\":1}",
      .refused("f.json at byte 13: the key 'a' occurs twice; a name must mean one thing; write the file again")),
    .init(
      "duplicate by an escape", #"{"a":1,"\u0061":2}"#,
      .refused("f.json at byte 7: the key 'a' occurs twice; a name must mean one thing; write the file again")),
    .init(
      "duplicate deep down", #"{"x":{"a":1,"a":2}}"#,
      .refused("f.json at byte 12: the key 'a' occurs twice; a name must mean one thing; write the file again")),
    .init(
      "duplicate of the first of nine", "{" + "abcdefgha".map { "\"\($0)\":0" }.joined(separator: ",") + "}",
      .refused("f.json at byte 49: the key 'a' occurs twice; a name must mean one thing; write the file again")),
    .init(
      "duplicate of the ninth", "{" + "abcdefghii".map { "\"\($0)\":0" }.joined(separator: ",") + "}",
      .refused("f.json at byte 55: the key 'i' occurs twice; a name must mean one thing; write the file again")),
    .init(
      "duplicate empty key", "{\"\":1,\"\":1}",
      .refused("f.json at byte 6: the key '' occurs twice; a name must mean one thing; write the file again")),
    .init(
      "terminal codes in a duplicate key", #"{"\u001b[2J":1,"\u001b[2J":1}"#,
      .refused("f.json at byte 15: the key '\\u{1b}[2J' occurs twice; a name must mean one thing; write the file again")
    ),
    .init(
      "trailing comma in an object", "{\"a\":1,}",
      .refused("f.json at byte 7: not valid JSON: expected a key, found '}'")),
    .init(
      "trailing comma in an array", "[1,]", .refused("f.json at byte 3: not valid JSON: expected a value, found ']'")),
    .init("comma first", "[,1]", .refused("f.json at byte 1: not valid JSON: expected a value, found ','")),
    .init("no comma", "[1 2]", .refused("f.json at byte 3: not valid JSON: expected ',' or ']', found '2'")),
    .init("no colon", "{\"a\" 1}", .refused("f.json at byte 5: not valid JSON: expected ':', found '1'")),
    .init("no value", "{\"a\":}", .refused("f.json at byte 5: not valid JSON: expected a value, found '}'")),
    .init("key without quotes", "{a:1}", .refused("f.json at byte 1: not valid JSON: expected a key, found 'a'")),
    .init("number as key", "{1:1}", .refused("f.json at byte 1: not valid JSON: expected a key, found '1'")),
    .init("wrong bracket", "[1}", .refused("f.json at byte 2: not valid JSON: expected ',' or ']', found '}'")),
    .init(
      "two values", "{}{}", .refused("f.json at byte 2: not valid JSON: expected nothing after the value, found '{'")),
    .init(
      "comment", "{} // no", .refused("f.json at byte 3: not valid JSON: expected nothing after the value, found '/'")),
    .init(
      "array does not end", "[1",
      .refused("f.json at byte 2: not valid JSON: expected ',' or ']', found the end of the text")),
    .init(
      "object does not end", "{\"a\":1",
      .refused("f.json at byte 6: not valid JSON: expected ',' or '}', found the end of the text")),
    .init(
      "string does not end", "[\"abc",
      .refused("f.json at byte 1: not valid JSON: the string that starts here does not end")),
    .init(
      "string ends with a backslash", "[\"abc\\",
      .refused("f.json at byte 6: not valid JSON: expected an escape, found the end of the text")),
    .init(
      "NaN", "NaN",
      .refused(
        "f.json at byte 0: not valid JSON: expected a value, and NaN and Infinity are none; write a number, or null, in its place"
      )),
    .init(
      "Infinity", "[Infinity]",
      .refused(
        "f.json at byte 1: not valid JSON: expected a value, and NaN and Infinity are none; write a number, or null, in its place"
      )),
    .init("-Infinity", "[-Infinity]", .refused("f.json at byte 2: not valid JSON: expected a digit, found 'I'")),
    .init("capital True", "[True]", .refused("f.json at byte 1: not valid JSON: expected a value, found 'T'")),
    .init("half a word", "[nul]", .refused("f.json at byte 4: not valid JSON: expected 'null', found ']'")),
    .init("word and more", "[nullx]", .refused("f.json at byte 5: not valid JSON: expected ',' or ']', found 'x'")),
    .init("leading zero", "[01]", .refused("f.json at byte 2: not valid JSON: expected ',' or ']', found '1'")),
    .init(
      "negative leading zero", "[-01]", .refused("f.json at byte 3: not valid JSON: expected ',' or ']', found '1'")),
    .init("plus", "[+1]", .refused("f.json at byte 1: not valid JSON: expected a value, found '+'")),
    .init("minus alone", "[-]", .refused("f.json at byte 2: not valid JSON: expected a digit, found ']'")),
    .init(
      "no digit before the point", "[.5]", .refused("f.json at byte 1: not valid JSON: expected a value, found '.'")),
    .init(
      "no digit behind the point", "[1.]", .refused("f.json at byte 3: not valid JSON: expected a digit, found ']'")),
    .init("no exponent", "[1e]", .refused("f.json at byte 3: not valid JSON: expected a digit, found ']'")),
    .init("hexadecimal", "[0x10]", .refused("f.json at byte 2: not valid JSON: expected ',' or ']', found 'x'")),
    .init(
      "control character", "[\"a\u{1F}\"]",
      .refused("f.json at byte 3: not valid JSON: control character 0x1f in a string")),
    .init(
      "control character behind an escape", "[\"\\n\n\"]",
      .refused("f.json at byte 4: not valid JSON: control character 0xa in a string")),
    .init(
      "vertical tab between values", "[1,\u{B}2]",
      .refused("f.json at byte 3: not valid JSON: expected a value, found byte 0xb")),
    .init(
      "no-break space between values", "[1,\u{A0}2]",
      .refused("f.json at byte 3: not valid JSON: expected a value, found byte 0xc2")),
    .init("unknown escape", #"["\x41"]"#, .refused("f.json at byte 3: not valid JSON: expected an escape, found 'x'")),
    .init(
      "three hexadecimal digits", #"["\u041"]"#,
      .refused("f.json at byte 7: not valid JSON: expected four hexadecimal digits, found '\"'")),
    .init(
      "sign among hexadecimal digits", #"["\u+041"]"#,
      .refused("f.json at byte 4: not valid JSON: expected four hexadecimal digits, found '+'")),
    .init(
      "high surrogate alone", #"["\ud83d"]"#, .refused("f.json at byte 4: not valid JSON: half of a surrogate pair")),
    .init(
      "high surrogate twice", #"["\ud83d\ud83d"]"#,
      .refused("f.json at byte 4: not valid JSON: half of a surrogate pair")),
    .init(
      "low surrogate first", #"["\ude00\ud83d"]"#,
      .refused("f.json at byte 4: not valid JSON: half of a surrogate pair")),
    .init(
      "high surrogate and a letter", #"["\ud83d\u0041"]"#,
      .refused("f.json at byte 4: not valid JSON: half of a surrogate pair")),
    .init(
      "continuation byte alone", [0x5B, 0x22, 0x80, 0x22, 0x5D],
      .refused("f.json at byte 1: not valid JSON: the string is not valid UTF-8")),
    .init(
      "overlong slash", [0x5B, 0x22, 0xC0, 0xAF, 0x22, 0x5D],
      .refused("f.json at byte 1: not valid JSON: the string is not valid UTF-8")),
    .init(
      "surrogate in UTF-8", [0x5B, 0x22, 0xED, 0xA0, 0x80, 0x22, 0x5D],
      .refused("f.json at byte 1: not valid JSON: the string is not valid UTF-8")),
    .init(
      "beyond U+10FFFF", [0x5B, 0x22, 0xF4, 0x90, 0x80, 0x80, 0x22, 0x5D],
      .refused("f.json at byte 1: not valid JSON: the string is not valid UTF-8")),
    .init(
      "UTF-8 cut off by the quote", [0x5B, 0x22, 0xE6, 0x97, 0x22, 0x5D],
      .refused("f.json at byte 1: not valid JSON: the string is not valid UTF-8")),
    .init(
      "bad UTF-8 behind an escape", [0x5B, 0x22, 0x5C, 0x6E, 0xFF, 0x22, 0x5D],
      .refused("f.json at byte 1: not valid JSON: the string is not valid UTF-8")),
  ]
}

/// Numbers and strings as parsed, keys in order.
private func text(_ value: JSONValue) -> String {
  switch value {
  case .null: "null"
  case .bool(let value): "\(value)"
  case .number(let literal): literal
  case .string(let value): "<\(value.printable)>"
  case .array(let values): "[\(values.map(text).joined(separator: " "))]"
  case .object(let members):
    "{\(members.map { "\($0.key)@\($0.byteOffset) \(text($0.value))" }.joined(separator: " "))}"
  }
}

@Test("JSON parser", arguments: JSONCase.values + JSONCase.defects)
func jsonParser(_ row: JSONCase) {
  let verdict = Verdict(in: "/nowhere") { (text(try JSONValue(parsing: row.bytes.span.bytes, file: "f.json")), []) }
  #expect(verdict == row.verdict, "ROW|\(row.testDescription)|\(verdict)|END")
}

@Test("offsets in messages count from the start of the file") func baseOffset() {
  let verdict = Verdict(in: "/nowhere") {
    (text(try JSONValue(parsing: Array("[1,]".utf8).span.bytes, file: "f", baseOffset: 8)), [])
  }
  #expect(verdict == .refused("f at byte 11: not valid JSON: expected a value, found ']'"))
}

@Test(
  "whole numbers",
  arguments: [
    ("0", 0, 0, 0.0), ("17", 17, 17, 17), ("-1", nil, -1, -1), ("-0", nil, 0, 0), ("1.0", nil, nil, 1),
    ("1e2", nil, nil, 100), ("9223372036854775807", .max, .max, 0x1p63), ("9223372036854775808", nil, nil, 0x1p63),
    ("1e400", nil, nil, .infinity),
  ] as [(String, Int?, Int?, Double)])
func wholeNumbers(_ literal: String, count: Int?, integer: Int?, double: Double) throws {
  let value = try JSONValue(parsing: Array(literal.utf8).span.bytes, file: "f")
  #expect(value.count == count)
  #expect(value.integer == integer)
  #expect(value.double == double)
}

/// The escapes of RFC 8259 are inverse to each other.
@Test("strings survive being written and read") func roundTrip() throws {
  let strings = [""] + (0...0x2FF).compactMap { Unicode.Scalar($0).map { "a\($0)b" } } + ["日本語😀\u{FFFF}\u{10FFFF}"]
  for string in strings {
    var json: [UInt8] = []
    json.append(jsonString: string)
    let read = try JSONValue(parsing: json.span.bytes, file: "f").string
    #expect(read.map { Array($0.utf8) } == Array(string.utf8))
  }
}
