import CTogether
import Glibc
import LLMPool

// C and Swift of one program have one pool: what either sends the others count, over one connection. So does a library
// that is linked with libllmpool.so and loaded late, as the program exports the functions.
let (url, library) = (CommandLine.arguments[1], CommandLine.arguments[2])
let response = try await Pool.shared.send(Request(url: url))
precondition(response.status == 401 && !response.isReused)
precondition(together_submitted() == 1)
precondition(together_perform(url) == 401)
guard let handle = dlopen(library, RTLD_NOW) else { fatalError(String(cString: dlerror())) }
typealias Submitted = @convention(c) () -> CLongLong
let submitted = unsafeBitCast(dlsym(handle, "together_submitted"), to: Submitted.self)
precondition(submitted() == 2)
let statistics = try Pool.shared.statistics()
precondition(statistics.submitted == 2 && statistics.reused == 1 && statistics.opened == 1)
print("one pool")
