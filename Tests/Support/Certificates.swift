import Glibc

/// Certificates of a throw-away authority, made once per run with the openssl command.
package struct Certificates: Sendable {
  package let directory: String

  package static let shared = Certificates()

  package func path(_ name: String) -> String { "\(directory)/\(name).pem" }

  private init() {
    var template = Array("/tmp/llmpool-certificates.XXXXXX".utf8CString)
    directory = String(cString: mkdtemp(&template)!)
    setenv("LLMPOOL_TEST_CERTIFICATES", directory, 1)
    atexit { removeDirectory() }
    let status = run("/bin/sh", ["-e", "-c", Self.script, "sh", directory])
    precondition(status == 0, "the openssl command failed with \(status)")
  }

  private static let script = """
    cd "$1"
    exec >log 2>&1
    key() { openssl ecparam -name prime256v1 -genkey -noout -out $1.key.pem; }
    authority() { key $1; openssl req -x509 -new -key $1.key.pem -subj "/CN=$2" -days 3 -out $1.pem; }
    leaf() {
      key $1
      openssl req -new -key $1.key.pem -subj "/CN=$1" -out $1.csr
      printf 'subjectAltName=%s\\n' "$2" >$1.ext
      openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key.pem -days $3 -extfile $1.ext -out $1.pem
    }
    authority ca "Test Authority"
    authority other "Other Authority"
    leaf good DNS:localhost,IP:127.0.0.1,DNS:*.wild.test 3
    leaf expired DNS:localhost -1
    leaf elsewhere DNS:elsewhere.test,DNS:b.elsewhere.test 3
    leaf client DNS:client 3
    cat client.pem client.key.pem >both.pem
    openssl ec -in client.key.pem -aes128 -passout pass:secret -out encrypted.key.pem
    key selfsigned
    openssl req -x509 -new -key selfsigned.key.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost \\
      -days 3 -out selfsigned.pem
    leaf subject DNS:unused 3
    openssl req -new -key subject.key.pem -subj "/CN=localhost" -out subject.csr
    openssl x509 -req -in subject.csr -CA ca.pem -CAkey ca.key.pem -days 3 -out subject.pem
    echo nothing >empty.pem
    """
}

private func removeDirectory() {
  guard let directory = getenv("LLMPOOL_TEST_CERTIFICATES") else { return }
  _ = run("/bin/rm", ["-rf", String(cString: directory)])
}

/// The exit status of a program; -1 where it did not start.
package func run(_ program: String, _ arguments: [String]) -> Int32 {
  var strings: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
  defer { for string in strings { free(string) } }
  var process: pid_t = 0
  guard posix_spawn(&process, program, nil, nil, &strings, environ) == 0 else { return -1 }
  var status: Int32 = 0
  waitpid(process, &status, 0)
  return status
}
