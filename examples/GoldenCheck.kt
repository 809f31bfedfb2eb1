// A reader of a TFLite artifact on Android, checked against its golden vectors.
//
// Gradle: implementation("com.google.ai.edge.litert:litert:1.4.0"), whose classes are in org.tensorflow.lite.
// Copy the artifact, its .json, golden.json and the folder golden/ into one folder on the device.

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import kotlin.math.sqrt
import org.json.JSONArray
import org.json.JSONObject
import org.tensorflow.lite.Interpreter

/** Embeds face crops of the artifact's input size. */
class FaceEmbedder(artifact: File) : AutoCloseable {
    private val record = JSONObject(File(artifact.path + ".json").readText())
    private val size = record.getJSONObject("preset").getInt("input_size")
    private val length = record.getJSONObject("output").getInt("size")
    private val renormalise = record.getJSONObject("output").getBoolean("renormalise")
    private val interpreter: Interpreter

    init {
        check(sha256(artifact) == record.getString("sha256")) { "$artifact is not what was exported" }
        interpreter = Interpreter(artifact, Interpreter.Options().setNumThreads(2))
    }

    /** A crop of the input size to a vector of length 1. */
    fun embed(crop: Bitmap): FloatArray {
        require(crop.width == size && crop.height == size) { "a crop of $size x $size pixels is needed" }
        val pixels = IntArray(size * size)
        crop.getPixels(pixels, 0, size, 0, 0, size, size)
        // Bytes as they are: what the network wants done to them is inside the artifact.
        val image = ByteBuffer.allocateDirect(size * size * 3).order(ByteOrder.nativeOrder())
        for (pixel in pixels) {
            image.put((pixel shr 16).toByte()).put((pixel shr 8).toByte()).put(pixel.toByte())
        }
        image.rewind()
        val embedding = Array(1) { FloatArray(length) }
        interpreter.runSignature(mapOf<String, Any>("image" to image), mapOf<String, Any>("embedding" to embedding), "embed")
        return if (renormalise) unit(embedding[0]) else embedding[0]
    }

    override fun close() = interpreter.close()
}

/** The golden crops that are answered otherwise than when the artifact was exported; none, if all is well. */
fun goldenMismatches(artifact: File): List<String> {
    val golden = JSONObject(File(artifact.parentFile, "golden.json").readText())
    val inputs = golden.getJSONArray("inputs")
    return FaceEmbedder(artifact).use { embedder ->
        (0 until inputs.length()).map(inputs::getJSONObject)
            .filter { it.getString("kind") == "crop" }
            .filter {
                val options = BitmapFactory.Options().apply { inPremultiplied = false }
                val crop = BitmapFactory.decodeFile(File(artifact.parentFile, it.getString("file")).path, options)
                cosineDistance(embedder.embed(crop), floats(it.getJSONArray("embedding"))) > golden.getDouble("tolerance")
            }
            .map { it.getString("file") }
    }
}

/** Of two vectors of length 1; up to the preset's threshold they are of one person. */
fun cosineDistance(first: FloatArray, second: FloatArray): Double =
    1.0 - first.indices.sumOf { first[it].toDouble() * second[it] }

private fun unit(vector: FloatArray): FloatArray {
    val norm = sqrt(vector.sumOf { it.toDouble() * it }).toFloat()
    return FloatArray(vector.size) { vector[it] / norm }
}

private fun floats(values: JSONArray) = FloatArray(values.length()) { values.getDouble(it).toFloat() }

private fun sha256(file: File): String {
    val digest = MessageDigest.getInstance("SHA-256")
    file.forEachBlock { bytes, count -> digest.update(bytes, 0, count) }
    return digest.digest().joinToString("") { "%02x".format(it) }
}
