import CNormFoldKernels
import Foundation
import Testing

@Suite struct ProcessorTests {
  @Test("OpenBLAS is asked for the widest kernels that the processor runs, as the kernel lists its instructions")
  func core() throws {
    let list = try String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
    let line = list.split(separator: "\n").first { $0.hasPrefix("flags") } ?? ""
    let flags = Set(line.split(separator: " ").map(String.init))
    let core = normfold_openblas_core().map { String(cString: $0) }
    if flags.isSuperset(of: ["avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"]) {
      #expect(core == "SkylakeX")
    } else {
      #expect(core == (flags.isSuperset(of: ["avx2", "fma"]) ? "Haswell" : nil))
    }
  }
}
